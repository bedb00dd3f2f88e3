"""Both stages lower their losses, change the adapter alone, and go on from a checkpoint exactly."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from acre_rag.errors import AdapterError
from acre_rag.model.adapter_files import load_adapter
from acre_rag.train.batches import QuestionBatch, QuestionSteps, StepShape
from acre_rag.train.loop import LoopSettings, TrainingError, run_steps
from acre_rag.train.packs import Ragged
from acre_rag.train.setup import Setup
from acre_rag.train.steps import StepLoss
from acre_rag.train.texts import TextBatch, TextSteps
from tests.tiny import VOCABULARY
from tests.train.data import RANK, WINDOW, make_pack, make_setup

SETTINGS = LoopSettings(steps=6, learning_rate=1e-2, selection_rate=3e-2, warmup=2, log_steps=1)
SHAPE = StepShape(contexts=2, documents=2, tokens=48, questions=3, weight=1.0, refill_tokens=16)


def _texts() -> TextSteps:
    values = np.random.default_rng(0).integers(VOCABULARY, size=600).astype(np.uint16)
    texts = Ragged(values, np.asarray([600]))
    return TextSteps(texts, documents=2, windows={3: 1.0}, window_tokens=WINDOW, share=0.5, seed=0)


def _questions(directory: Path, setup: Setup) -> QuestionSteps:
    pack = make_pack(directory, setup.local)
    return QuestionSteps({"squad": pack}, [SHAPE], setup.settings, seed=0)


def _question_loss(setup: Setup, batch: QuestionBatch) -> StepLoss:
    selection = setup.trainable.selection()
    return setup.trainer.question_loss(batch, selection, selection_weight=0.5)


@pytest.mark.parametrize("next_token", [False, True])
def test_stage_1_lowers_its_loss_on_a_batch_and_leaves_the_model_alone(
    next_token: bool, tmp_path: Path
) -> None:
    setup = make_setup()
    batch: TextBatch = _texts()[0]
    before = [weight.clone() for weight in setup.local.model.parameters()]

    def loss_of(_: TextBatch) -> StepLoss:
        return setup.trainer.text_loss(batch, next_token=next_token)

    first = float(loss_of(batch).total.detach())
    run_steps(setup.trainable, _texts(), loss_of, replace(SETTINGS, steps=12), tmp_path)

    assert float(loss_of(batch).total.detach()) < first
    assert all(
        torch.equal(a, b) for a, b in zip(before, setup.local.model.parameters(), strict=True)
    )


@pytest.mark.parametrize("question_landmarks", [0, 3])
def test_stage_2_lowers_both_losses_on_a_batch(question_landmarks: int, tmp_path: Path) -> None:
    setup = make_setup(question_landmarks=question_landmarks)
    steps = _questions(tmp_path, setup)
    batch = steps[0]
    first = _question_loss(setup, batch).parts

    run_steps(
        setup.trainable,
        steps,
        lambda _: _question_loss(setup, batch),
        replace(SETTINGS, steps=20),
        tmp_path,
    )

    last = _question_loss(setup, batch).parts
    assert last["answer"] < first["answer"]
    assert last["selection"] < first["selection"]


@pytest.mark.parametrize("question_landmarks", [0, 3])
def test_gradients_reach_every_parameter_that_can_change_an_answer(
    question_landmarks: int, tmp_path: Path
) -> None:
    setup = make_setup(question_landmarks=question_landmarks)
    with torch.no_grad():
        for up in setup.trainable.up.values():
            up.normal_(std=0.1)

    _question_loss(setup, _questions(tmp_path, setup)[0]).total.backward()

    untouched = {
        name
        for name, parameter in setup.trainable.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    }
    # A landmark's query in the last layer feeds no key and no value; a question's is scored by.
    assert untouched == (set() if question_landmarks else {"down.2_q", "up.2_q"})


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    whole, halves = make_setup(), make_setup()

    def run(setup: Setup, settings: LoopSettings, directory: Path) -> int:
        steps = _questions(tmp_path, setup)
        loss_of = lambda batch: _question_loss(setup, batch)  # noqa: E731
        return run_steps(setup.trainable, steps, loss_of, settings, directory)

    run(whole, SETTINGS, tmp_path / "whole")
    stopped = 0
    while stopped < SETTINGS.steps:
        # No time at all: every run does one step.
        stopped = run(halves, replace(SETTINGS, stop_seconds=0.0), tmp_path / "halves")

    for ours, theirs in zip(
        halves.trainable.parameters(), whole.trainable.parameters(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    setup = make_setup()
    steps = _questions(tmp_path, setup)
    good = replace(SETTINGS, stop_seconds=0.0)
    run_steps(setup.trainable, steps, lambda b: _question_loss(setup, b), good, tmp_path)
    checkpoint = (tmp_path / "checkpoint.safetensors").read_bytes()

    def broken(batch: QuestionBatch) -> StepLoss:
        loss = _question_loss(setup, batch)
        nothing = loss.total * math.nan
        return StepLoss(nothing, {"answer": nothing.detach()})

    with pytest.raises(TrainingError, match="no number at step 2"):
        run_steps(setup.trainable, steps, broken, SETTINGS, tmp_path)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == checkpoint


def test_running_out_of_gpu_memory_names_what_to_lower_and_keeps_the_last_checkpoint(
    tmp_path: Path,
) -> None:
    setup = make_setup()
    good = replace(SETTINGS, stop_seconds=0.0)
    run_steps(setup.trainable, _texts(), setup.trainer.text_loss, good, tmp_path)
    checkpoint = (tmp_path / "checkpoint.safetensors").read_bytes()

    def too_large(_: TextBatch) -> StepLoss:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(TrainingError, match=r"step 1 ran out .* lower --documents .* --scale"):
        run_steps(setup.trainable, _texts(), too_large, SETTINGS, tmp_path)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == checkpoint


def test_a_checkpoint_of_another_rank_is_refused(tmp_path: Path) -> None:
    setup, other = make_setup(), make_setup(rank=RANK + 1)
    good = replace(SETTINGS, stop_seconds=0.0)
    run_steps(setup.trainable, _texts(), setup.trainer.text_loss, good, tmp_path)

    with pytest.raises(AdapterError, match="same model and rank"):
        run_steps(other.trainable, _texts(), other.trainer.text_loss, SETTINGS, tmp_path)


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(b"nothing of the kind")
    setup = make_setup()

    with pytest.raises(AdapterError, match="not a checkpoint of this run"):
        run_steps(setup.trainable, _texts(), setup.trainer.text_loss, SETTINGS, tmp_path)


@pytest.mark.parametrize("question_landmarks", [0, 3])
def test_a_saved_adapter_starts_the_next_stage(question_landmarks: int, tmp_path: Path) -> None:
    setup = make_setup(question_landmarks=question_landmarks)
    next_one = make_setup(question_landmarks=question_landmarks)
    with torch.no_grad():
        setup.trainable.selection_logits.normal_()
        for up in setup.trainable.up.values():
            up.normal_(std=0.1)

    setup.save(tmp_path, None, {})
    next_one.trainable.take(load_adapter(tmp_path))

    for ours, theirs in zip(
        next_one.trainable.up.values(), setup.trainable.up.values(), strict=True
    ):
        torch.testing.assert_close(ours, theirs.bfloat16().float(), rtol=0, atol=0)
    torch.testing.assert_close(next_one.trainable.selection(), setup.trainable.selection())
    if setup.trainable.question_embeddings is not None:
        assert next_one.trainable.question_embeddings is not None
        torch.testing.assert_close(
            next_one.trainable.question_embeddings,
            setup.trainable.question_embeddings.bfloat16().float(),
            rtol=0,
            atol=0,
        )


def test_an_adapter_without_landmarks_of_the_question_gets_new_ones(tmp_path: Path) -> None:
    old, new = make_setup(), make_setup(question_landmarks=3)
    with torch.no_grad():
        old.trainable.selection_logits.normal_()
        old.trainable.embedding.normal_()
    old.save(tmp_path, None, {})

    new.trainable.take(load_adapter(tmp_path))

    own = new.trainable.question_embeddings
    assert own is not None
    assert len(own.unique(dim=0)) == 3
    torch.testing.assert_close(own.mean(dim=0), new.trainable.embedding)
    before, after = old.trainable.selection(), new.trainable.selection()
    # The groups that were known keep their order; the new one begins like the last token's.
    torch.testing.assert_close(
        after[:, :, :3] / after[:, :, :3].sum(), before, rtol=1e-3, atol=1e-5
    )
    torch.testing.assert_close(
        after[:, :, 3] / after[:, :, 3].sum(), before[:, :, 2] / before[:, :, 2].sum()
    )


def test_landmarks_of_the_question_are_not_lost_unsaid(tmp_path: Path) -> None:
    make_setup(question_landmarks=3).save(tmp_path, None, {})

    with pytest.raises(AdapterError, match="has 3 landmarks of the question; expected 2: set --qu"):
        make_setup(question_landmarks=2).trainable.take(load_adapter(tmp_path))
