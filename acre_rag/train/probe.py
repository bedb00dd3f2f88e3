"""How an adapter does on held-out questions while it is trained: evidence recall and answers.

`acre eval` measures finished adapters, beside every baseline; this is quicker, for one's own use.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from acre_rag.train.bank import Bank, choose_intervals, refilled_places
from acre_rag.train.batches import BatchSettings, QuestionBatch, collate
from acre_rag.train.composing import Composer, PlacedQuestion
from acre_rag.train.packs import QuestionPack
from acre_rag.train.steps import Trainer


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSettings:
    """What is asked of how much text.

    Attributes:
        tokens: Tokens of a document: longer ones are cut, shorter ones filled up.
        limit: Most questions.
        documents: Documents of a batch.
        budgets: Refilled tokens to measure.
        answer_tokens: Longest answer; 0 measures recall alone.
        landmarks: Read with landmarks, or in the training-free mode.
        seed: Draws the questions.
    """

    tokens: int = 4096
    limit: int = 600
    documents: int = 8
    budgets: tuple[int, ...] = (256, 512)
    answer_tokens: int = 24
    landmarks: bool = True
    seed: int = 0


@dataclass(frozen=True, slots=True)
class ProbeBatch:
    """A batch of questions with what their answers are judged by.

    Attributes:
        batch: Documents and questions.
        questions: The questions, with all gold occurrences.
    """

    batch: QuestionBatch
    questions: list[PlacedQuestion]


def probe_batches(
    pack: QuestionPack, batching: BatchSettings, settings: ProbeSettings
) -> list[ProbeBatch]:
    """Cut documents at their start and draw questions whose gold lies inside, all alike likely."""
    composer = Composer(pack)
    composed = [composer.from_start(number, settings.tokens) for number in range(pack.documents)]
    pairs = [(number, asked) for number, one in enumerate(composed) for asked in one.questions]
    # A document that fills up another one brings its questions twice.
    pairs = list({asked.index: (number, asked) for number, asked in reversed(pairs)}.values())
    rng = np.random.default_rng(settings.seed)
    order = rng.permutation(len(pairs))[: settings.limit].tolist()
    drawn = sorted((pairs[i] for i in order), key=lambda pair: (pair[0], pair[1].index))
    used = sorted({number for number, _ in drawn})
    batches = []
    for start in range(0, len(used), settings.documents):
        own = used[start : start + settings.documents]
        taken = [(number, asked) for number, asked in drawn if number in own]
        batch = collate(
            pack,
            [[composed[number].ids] for number in own],
            [asked for _, asked in taken],
            [own.index(number) for number, _ in taken],
            batching,
            refill_tokens=0,
            rng=rng,
        )
        batches.append(ProbeBatch(batch, [asked for _, asked in taken]))
    return batches


def recalls(
    questions: Sequence[PlacedQuestion], chosen: Tensor, interval_tokens: int
) -> list[bool]:
    """Tell for each question whether one whole gold occurrence lies in the chosen intervals."""
    found = []
    for asked, row in zip(questions, chosen.tolist(), strict=True):
        kept = set(row)
        wanted = (range(a // interval_tokens, -(-b // interval_tokens)) for a, b in asked.spans)
        found.append(any(kept.issuperset(intervals) for intervals in wanted))
    return found


def answers(  # a memory consists of so much
    trainer: Trainer,
    batch: QuestionBatch,
    bank: Bank,
    chosen: Tensor,
    kept: Tensor,
    *,
    tokens: int,
    eos_id: int,
) -> list[list[int]]:
    """Answer greedily over refilled memories.

    Every step reads the question's rows again: few rows over a long memory cost little, and no
    cache has to be kept for a batch of questions of different lengths.

    Args:
        trainer: Reads.
        batch: Questions.
        bank: Keys and values of their documents.
        chosen: Intervals to refill, (questions, chosen).
        kept: Intervals whose landmarks stay, (questions, kept).
        tokens: Longest answer.
        eos_id: Ends an answer.

    Returns:
        Token ids of each answer.
    """
    rows = bank.rows_of(batch.owner, refilled_places(bank.places, chosen, kept))
    memory = [bank.gather(layer, rows) for layer in range(len(bank.layers))]
    lengths, longest = batch.row_lengths, int(batch.row_lengths.max())
    ids = torch.full((len(rows), longest + tokens), eos_id, device=rows.device)
    # What stands behind a shorter question is overwritten before any row sees it.
    ids[:, :longest] = batch.rows[:, :longest]
    ended = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    each = torch.arange(len(rows), device=rows.device)
    for step in range(tokens):
        asked = ids[:, : longest + step]
        landmarks = batch.landmark_rows(asked.shape[1])
        read = trainer.twin.read_rows(asked, rows.shape[1], memory.__getitem__, landmarks)
        logits = trainer.logits(read.states[each, lengths - 1 + step])
        token = logits.argmax(dim=1).masked_fill(ended, eos_id)
        ids[each, lengths + step] = token
        ended |= token == eos_id
        if bool(ended.all()):
            break
    grid = lengths[:, None] + torch.arange(tokens, device=rows.device)
    return [_until(row, eos_id) for row in ids.gather(1, grid).tolist()]


def choose(scores: Tensor, refill_tokens: int, interval_tokens: int) -> Tensor:
    """Choose intervals by score alone: (questions, chosen)."""
    nothing = torch.zeros_like(scores)
    nobody = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    return choose_intervals(scores, nothing, nobody, refill_tokens // interval_tokens)


def answer_scores(given: Sequence[str], gold: Sequence[Sequence[str]]) -> dict[str, float]:
    """Mean F1 over words, exact match, and share of answers that contain a gold answer."""
    pairs = [
        [(_words(answer), _words(wanted)) for wanted in each]
        for answer, each in zip(given, gold, strict=True)
    ]
    count = max(len(pairs), 1)
    return {
        "f1": sum(max(_f1(a, b) for a, b in each) for each in pairs) / count,
        "em": sum(any(a == b for a, b in each) for each in pairs) / count,
        "contains": sum(any(_contains(a, b) for a, b in each) for each in pairs) / count,
    }


def _until(row: Sequence[int], eos_id: int) -> list[int]:
    return list(row[: row.index(eos_id)]) if eos_id in row else list(row)


def _words(text: str) -> list[str]:
    plain = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()


def _f1(given: list[str], wanted: list[str]) -> float:
    common = sum((Counter(given) & Counter(wanted)).values())
    if not common:
        return float(given == wanted)
    return 2 * common / (len(given) + len(wanted))


def _contains(given: list[str], wanted: list[str]) -> bool:
    return bool(wanted) and f" {' '.join(wanted)} " in f" {' '.join(given)} "
