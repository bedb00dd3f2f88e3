"""Baselines are tuned on prompts like those they are asked with."""

from pathlib import Path

import pytest
import torch

from acre_rag.model.lora import TunedModel, load_tuned
from acre_rag.train.baseline import CHUNK_TOKENS, BaselineSteps, PromptBatch, Way
from acre_rag.train.batches import IGNORED, QuestionSteps, StepShape
from acre_rag.train.loop import LoopSettings
from acre_rag.train.setup import Setup
from acre_rag.train.stages import train_baseline
from tests.tiny import tiny_local
from tests.train.data import make_pack, make_setup

SHAPE = StepShape(contexts=2, documents=2, tokens=96, questions=3, weight=1.0)
BETWEEN = [7]


def _questions(directory: Path, setup: Setup) -> QuestionSteps:
    return QuestionSteps(
        {"squad": make_pack(directory, setup.local)}, [SHAPE], setup.settings, seed=0
    )


def _steps(directory: Path, setup: Setup, way: Way) -> BaselineSteps:
    decode = setup.local.tokenizer.decode
    questions = _questions(directory, setup)
    return BaselineSteps(questions, setup.frame.prefix_ids, BETWEEN, way, decode)


def test_questions_that_share_a_text_are_read_as_if_each_were_alone(tmp_path: Path) -> None:
    setup = make_setup()
    batch = _questions(tmp_path, setup)[0]
    prompts = _steps(tmp_path, setup, "full")[0]
    model = setup.local.model

    together = model.model(
        input_ids=prompts.ids, attention_mask=prompts.mask(), position_ids=prompts.positions
    ).last_hidden_state

    assert prompts.question is not None
    contexts = batch.ids.flatten(2)[:, :, : batch.tokens].flatten(1)
    for number, owner in enumerate(batch.owner.tolist()):
        place = number - owner * SHAPE.questions + 1
        rows = prompts.question[owner] == place
        asked = batch.rows[number, : int(rows.sum())]
        alone = torch.cat([torch.tensor(setup.frame.prefix_ids), contexts[owner], asked])[None]
        expected = model.model(input_ids=alone).last_hidden_state[0, -len(asked) :]
        torch.testing.assert_close(together[owner, rows], expected, rtol=1e-4, atol=1e-4)
        answer = batch.targets[number][batch.targets[number] != IGNORED]
        found = prompts.targets[owner, rows]
        assert found[found != IGNORED].tolist() == answer.tolist()
        assert int((found != IGNORED).nonzero()[0]) == int(batch.row_lengths[number]) - 1


def test_chunks_keep_the_budget_and_hold_the_gold_where_it_is_forced(tmp_path: Path) -> None:
    setup = make_setup()
    batch = _questions(tmp_path, setup)[0]

    prompts = _steps(tmp_path, setup, "rag")[0]

    assert prompts.mask() is None
    contexts = batch.ids.flatten(2)[:, :, : batch.tokens].flatten(1)
    prefix = len(setup.frame.prefix_ids)
    for number, ids in enumerate(prompts.ids.tolist()):
        first = int((prompts.targets[number] != IGNORED).nonzero()[0])
        shown = ids[prefix : first + 1 - int(batch.row_lengths[number])]
        count = max(batch.refill_tokens // CHUNK_TOKENS, 1)
        assert len(shown) <= count * CHUNK_TOKENS + count - 1
        if bool(batch.forced[number]) and bool(batch.gold[number].any()):
            context = contexts[batch.owner[number]]
            place = int(batch.gold[number].nonzero()[0]) * 4 // CHUNK_TOKENS * CHUNK_TOKENS
            gold = context[place : place + CHUNK_TOKENS].tolist()
            assert any(shown[i : i + len(gold)] == gold for i in range(len(shown)))


@pytest.mark.parametrize("way", ["full", "rag"])
def test_a_tuned_generator_answers_better_and_comes_back_from_its_files(
    tmp_path: Path, way: Way
) -> None:
    setup = make_setup()
    local = setup.local
    prompts = _steps(tmp_path, setup, way)[0]
    before, frozen = _loss(local.model, prompts), [p.clone() for p in local.model.parameters()]
    settings = LoopSettings(steps=12, learning_rate=3e-2, selection_rate=0.0, warmup=2)

    train_baseline(local, _questions(tmp_path, setup), way, 3, settings, tmp_path / "run")

    assert _loss(local.model, prompts) < before
    again = tiny_local("llama")
    loaded = load_tuned(again, tmp_path / "run" / "adapter")
    assert _loss(loaded.model, prompts) == pytest.approx(_loss(local.model, prompts), rel=1e-4)
    kept = zip(again.model.parameters(), frozen, strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in kept)


def test_changes_alone_are_parameters() -> None:
    tuned = TunedModel(tiny_local("llama"), 3)

    assert all("lora" in name for name, _ in tuned.named_parameters())
    assert len(list(tuned.parameters())) == 3 * 7 * 2  # layers, linear layers, two halves


@torch.no_grad()
def _loss(model: torch.nn.Module, prompts: PromptBatch) -> float:
    output = model(
        input_ids=prompts.ids, attention_mask=prompts.mask(), position_ids=prompts.positions
    )
    told = prompts.targets >= 0
    return float(torch.nn.functional.cross_entropy(output.logits[told], prompts.targets[told]))
