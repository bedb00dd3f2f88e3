"""What trains nothing: fit selection weights alone, and measure an adapter on held-out data."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from acre_rag.errors import DocumentError
from acre_rag.refill import least_wanted
from acre_rag.train.bank import Bank, keep_landmarks, pooled_bank
from acre_rag.train.batches import QuestionBatch, QuestionSteps, StepShape
from acre_rag.train.calibrate import fit_weights, gold_attention
from acre_rag.train.gap import language_gap, windows_of
from acre_rag.train.packs import QuestionPack, Ragged
from acre_rag.train.probe import (
    ProbeSettings,
    answer_scores,
    answers,
    choose,
    probe_batches,
    recalls,
)
from acre_rag.train.scoring import batch_scores
from acre_rag.train.setup import Setup


def bank_of(setup: Setup, batch: QuestionBatch, *, landmarks: bool) -> Bank:
    """Read a batch's documents, with landmarks or in the training-free mode."""
    if landmarks:
        return setup.trainer.read_bank(batch)
    ids = batch.ids.flatten(1)[:, : batch.tokens]
    trainer = setup.trainer
    return pooled_bank(trainer.twin, trainer.prefix_ids, ids, trainer.interval_tokens)


@torch.no_grad()
def calibrated_weights(
    setup: Setup,
    packs: Mapping[str, QuestionPack],
    shapes: Sequence[StepShape],
    *,
    batches: int,
    landmarks: bool,
    seed: int = 0,
) -> Tensor:
    """Fit selection weights on drawn questions: (layers, q_heads, question groups)."""
    steps = QuestionSteps(packs, shapes, setup.settings, seed=seed)
    paid = []
    for step in range(batches):
        batch = steps[step].to(setup.local.device)
        bank = bank_of(setup, batch, landmarks=landmarks)
        paid.append(gold_attention(setup.trainer, bank, batch))
    return fit_weights(torch.cat(paid))


@torch.no_grad()
def fitted_score(
    setup: Setup,
    questions: QuestionSteps,
    selection: Tensor,
    *,
    share: float,
    batches: int,
    landmarks: bool,
) -> float:
    """Find the score from which `refill_tokens="auto"` has the gold of most questions.

    Args:
        setup: Model and adapter.
        questions: What to fit on; questions that were trained on will do.
        selection: Weights of the heads, (layers, q_heads, question groups).
        share: Questions whose gold intervals are to be refilled, as a share of those that have
            any of their own.
        batches: Batches to draw.
        landmarks: Read with landmarks, or in the training-free mode.

    Raises:
        DocumentError: No question has gold intervals of its own.
    """
    found = []
    for step in range(batches):
        batch = questions[step].to(setup.local.device)
        scores = _scores(setup, batch, bank_of(setup, batch, landmarks=landmarks), selection)
        told = batch.exact & (batch.gold > 0).any(dim=1)
        found.append(least_wanted(scores[told], batch.gold[told] > 0).cpu())
    least = torch.cat(found)
    if not len(least):
        raise DocumentError(
            "no question has an answer whose place is known; expected some: give a pack of "
            "questions whose answers stand in the text"
        )
    return min(max(float(least.quantile(1 - share)), 1e-6), 1.0)


def _scores(setup: Setup, batch: QuestionBatch, bank: Bank, selection: Tensor) -> Tensor:
    queries, keys = setup.trainer.landmark_queries(bank, batch)
    groups = batch.groups[:, :, : queries[0].shape[2]]
    scaling = setup.trainer.twin.shape.scaling
    return batch_scores(queries, keys, groups, selection.to(batch.gold.device), scaling)


@torch.no_grad()
def measured(
    setup: Setup,
    pack: QuestionPack,
    gold: Sequence[Sequence[str]],
    selection: Tensor,
    settings: ProbeSettings,
) -> dict[int, dict[str, float]]:
    """Measure recall, and answers, on documents of one length.

    Args:
        setup: Model and adapter.
        pack: Held-out questions.
        gold: Gold answers of each question of the pack.
        selection: Weights of the heads, (layers, q_heads, question groups).
        settings: What is asked.

    Returns:
        For each budget: `n`, `evidence_recall`, and `f1`, `em`, `contains` where answers are given.
    """
    recalled: dict[int, list[bool]] = {budget: [] for budget in settings.budgets}
    given: dict[int, list[str]] = {budget: [] for budget in settings.budgets}
    wanted: list[Sequence[str]] = []
    trainer, device, interval = setup.trainer, setup.local.device, setup.settings.interval_tokens
    for own in probe_batches(pack, setup.settings, settings):
        batch = own.batch.to(device)
        bank = bank_of(setup, batch, landmarks=settings.landmarks)
        scores = _scores(setup, batch, bank, selection)
        wanted += [gold[asked.index] for asked in own.questions]
        for budget in settings.budgets:
            chosen = choose(scores, budget, interval)
            recalled[budget] += recalls(own.questions, chosen, interval)
            if settings.answer_tokens:
                eos = setup.settings.eos_id
                kept = keep_landmarks(scores, chosen, trainer.most_landmarks)
                found = answers(
                    trainer, batch, bank, chosen, kept, tokens=settings.answer_tokens, eos_id=eos
                )
                given[budget] += [_text(setup, ids) for ids in found]
    return {
        budget: {
            "n": len(wanted),
            "evidence_recall": sum(recalled[budget]) / max(len(wanted), 1),
            **(answer_scores(given[budget], wanted) if given[budget] else {}),
        }
        for budget in settings.budgets
    }


@torch.no_grad()
def measured_gap(setup: Setup, texts: Ragged, windows: int) -> dict[str, float]:
    """Measure what landmarks close of the gap between windows alone and full attention.

    Raises:
        DocumentError: No text is long enough.
    """
    values = [texts[index] for index in range(len(texts))]
    documents = list(windows_of(values, windows, setup.settings.window_tokens))
    if not documents:
        raise DocumentError(
            f"found no text of {windows} windows ({windows * setup.settings.window_tokens} "
            "tokens); expected at least one: give longer texts"
        )
    return language_gap(setup.trainer, torch.stack(documents).to(setup.local.device))


def read_gold(path: Path) -> list[list[str]]:
    """Read the gold answers beside a question pack.

    Raises:
        DocumentError: They are missing or broken.
    """
    beside = path.with_suffix(".answers.jsonl")
    try:
        lines = beside.read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["answers"] for line in lines]
    except (OSError, ValueError, KeyError) as error:
        raise DocumentError(
            f"{beside} cannot be read ({error}); expected the answers that were written with the "
            "pack: prepare it again"
        ) from error


def _text(setup: Setup, ids: list[int]) -> str:
    return str(setup.local.tokenizer.decode(ids, skip_special_tokens=True))
