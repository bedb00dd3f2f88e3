"""Prompts to tune a baseline's generator on: the same questions, over the whole text or chunks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from acre_rag.text.word_search import bm25_index
from acre_rag.train.batches import IGNORED, QuestionBatch, QuestionSteps

Way = Literal["full", "rag"]
CHUNK_TOKENS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptBatch:
    """Prompts with answers, as tensors; several questions may share one document.

    Attributes:
        ids: (prompts, rows), padded behind.
        positions: Place of each row in its own prompt, (prompts, rows).
        question: Which question of its prompt a row belongs to, 0 for what all of them see, -1
            for padding, (prompts, rows); `None` where a prompt has one question.
        targets: Token that each row should predict, or `IGNORED`, (prompts, rows).
    """

    ids: Tensor
    positions: Tensor
    question: Tensor | None
    targets: Tensor

    def to(self, device: torch.device) -> "PromptBatch":
        """Move the tensors to a device."""
        question = None if self.question is None else self.question.to(device)
        return replace(
            self,
            ids=self.ids.to(device),
            positions=self.positions.to(device),
            question=question,
            targets=self.targets.to(device),
        )

    def mask(self) -> Tensor | None:
        """Tell what each row sees: (prompts, 1, rows, rows), bool; `None` for all before it."""
        if self.question is None:
            return None
        rows = self.ids.shape[1]
        before = torch.ones(rows, rows, dtype=torch.bool, device=self.ids.device).tril()
        asking, seen = self.question[:, :, None], self.question[:, None, :]
        return (before & ((seen == 0) | (asking == seen)))[:, None]


class BaselineSteps(Dataset[PromptBatch]):
    """Prompts by step, from the very questions that a landmark adapter is trained on.

    Args:
        questions: Batches by step.
        prefix_ids: Token ids before the documents.
        between: Token ids between chunks that are no neighbours.
        way: Show the whole text, or chunks that word search finds.
        decode: Token ids to text, for word search.
    """

    def __init__(
        self,
        questions: QuestionSteps,
        prefix_ids: Sequence[int],
        between: Sequence[int],
        way: Way,
        decode: Callable[[list[int]], object],
    ) -> None:
        self._questions = questions
        self._prefix = list(prefix_ids)
        self._between = list(between)
        self._way = way
        self._decode = decode

    def __getitem__(self, step: int) -> PromptBatch:
        batch = self._questions[step]
        contexts = batch.ids.flatten(2)[:, :, : batch.tokens].flatten(1)
        if self._way == "full":
            prompts = [
                _Prompt(
                    [*self._prefix, *ids.tolist()],
                    [_asked(batch, i) for i in _owned(batch, number)],
                )
                for number, ids in enumerate(contexts)
            ]
            return _collate(prompts, shared=True)
        prompts = []
        for number, ids in enumerate(contexts):
            own = _owned(batch, number)
            for index, shown in zip(own, self._chunks(batch, ids, own), strict=True):
                prompts.append(_Prompt([*self._prefix, *shown], [_asked(batch, index)]))
        return _collate(prompts, shared=False)

    def _chunks(self, batch: QuestionBatch, ids: Tensor, own: Sequence[int]) -> list[list[int]]:
        """Choose chunks for the questions of one context, the gold ones first where forced."""
        chunks = [chunk.tolist() for chunk in ids.split(CHUNK_TOKENS)]
        rank = bm25_index([str(self._decode(chunk)) for chunk in chunks])
        scores = rank([str(self._decode(_question_ids(batch, index))) for index in own])
        interval = len(ids) // batch.gold.shape[1]
        gold = batch.gold[list(own)].repeat_interleave(interval, dim=1)
        for row, index in enumerate(own):
            if bool(batch.forced[index]):
                touched = gold[row].nonzero().flatten() // CHUNK_TOKENS
                scores[row, touched.unique().numpy()] += 1e6
        count = max(batch.refill_tokens // CHUNK_TOKENS, 1)
        best = np.sort(np.argsort(-scores, axis=1, kind="stable")[:, :count], axis=1)
        return [self._joined(chunks, row) for row in best.tolist()]

    def _joined(self, chunks: Sequence[list[int]], chosen: Sequence[int]) -> list[int]:
        ids: list[int] = []
        for before, chunk in zip([-1, *chosen], chosen, strict=False):
            ids += self._between if ids and before + 1 != chunk else []
            ids += chunks[chunk]
        return ids


@dataclass(frozen=True, slots=True)
class _Prompt:
    """What is shown, and questions about it, each with the token that every row predicts."""

    shown: list[int]
    asked: list[tuple[list[int], list[int]]]


def _owned(batch: QuestionBatch, context: int) -> list[int]:
    return [int(i) for i in (batch.owner == context).nonzero().flatten()]


def _question_ids(batch: QuestionBatch, index: int) -> list[int]:
    return [int(token) for token in batch.rows[index][batch.groups[index, 0] > 0]]


def _asked(batch: QuestionBatch, index: int) -> tuple[list[int], list[int]]:
    """Rows of a question and its answer, without the end of the turn, and their targets."""
    before = int(batch.row_lengths[index])
    answer = [token for token in batch.targets[index].tolist() if token != IGNORED]
    rows = batch.rows[index, : before + len(answer) - 1].tolist()
    return rows, [IGNORED] * (before - 1) + answer


def _collate(prompts: Sequence[_Prompt], *, shared: bool) -> PromptBatch:
    """Pad prompts to one length, a multiple of 8."""
    longest = max(len(p.shown) + sum(len(rows) for rows, _ in p.asked) for p in prompts)
    shape = (len(prompts), -(-longest // 8) * 8)
    ids, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    question, targets = np.full(shape, -1, np.int64), np.full(shape, IGNORED, np.int64)
    for number, prompt in enumerate(prompts):
        end = len(prompt.shown)
        ids[number, :end], positions[number, :end] = prompt.shown, np.arange(end)
        question[number, :end] = 0
        for place, (rows, wanted) in enumerate(prompt.asked, start=1):
            span = slice(end, end + len(rows))
            ids[number, span], targets[number, span] = rows, wanted
            positions[number, span] = len(prompt.shown) + np.arange(len(rows))
            question[number, span] = place
            end = span.stop
    return PromptBatch(
        ids=torch.from_numpy(ids),
        positions=torch.from_numpy(positions),
        question=torch.from_numpy(question) if shared else None,
        targets=torch.from_numpy(targets),
    )
