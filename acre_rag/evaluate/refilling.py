"""The methods that refill: ACRE as it is here, as published, without training, and with gold."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from acre_rag.evaluate.dataset import Question, Span
from acre_rag.evaluate.documents import OpenDocument, ReadDocument, Scores
from acre_rag.evaluate.prompts import Budget, Prompt, joined, touching
from acre_rag.model.batched import remembered
from acre_rag.refill import Selection, choose, splice

Rule = Callable[[Scores, Question, ReadDocument], Tensor | None]
"""Gives the scores to choose by; `None` where a question cannot be asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refilling:
    """Chooses intervals by scores and refills them, as the engine does.

    Attributes:
        name: Name of the method.
        rule: Gives the scores to choose by.
        trained: Read with landmarks, or in the training-free mode.
        budgeted: Refill, or keep the best landmarks alone.
    """

    name: str
    rule: Rule
    trained: bool = True
    budgeted: bool = True

    @property
    def finds_budget(self) -> bool:
        """Whether its scores say how sure the choice is; gold evidence needs no choice."""
        return self.budgeted and self.rule is not gold_first

    def prompts(self, opened: OpenDocument, budget: Budget) -> list[Prompt | None]:
        """Make a prompt for each question.

        Raises:
            BudgetError: The refill that was asked for does not fit the context.
            ValueError: The method needs an adapter, and there is none.
        """
        read = opened.trained if self.trained else opened.free
        if read is None:
            raise ValueError(f"{self.name} found no landmark adapter; expected one: name it")
        found: list[Prompt | None] = []
        for index, question in enumerate(opened.document.questions):
            scores = self.rule(read.scores[index], question, read)
            if scores is None:
                found.append(None)
                continue
            chosen = _choose(read, opened, index, scores, budget if self.budgeted else 0)
            found.append(_prompt(read, chosen, opened.rows[index].ids))
        return found


def learned(scores: Scores, _question: Question, _read: ReadDocument) -> Tensor:
    """Choose by learned weights."""
    return scores.learned


def published(scores: Scores, _question: Question, _read: ReadDocument) -> Tensor:
    """Choose by ACRE's published rule."""
    return scores.published


def gold_first(scores: Scores, question: Question, read: ReadDocument) -> Tensor | None:
    """Choose the gold evidence, and by learned weights what room is left."""
    spans = question.occurrences[:1] or question.evidence
    if not spans:
        return None
    raised = scores.learned.clone()
    raised[touching(spans, *read.characters)] += 2  # all scores together are 1
    return raised


def _choose(
    read: ReadDocument, opened: OpenDocument, index: int, scores: Tensor, budget: Budget
) -> Selection:
    layout, reader = read.layout, read.reader
    asked = len(opened.rows[index].ids) + reader.question_landmarks
    used = reader.prefix.tokens + asked + opened.max_new_tokens
    lengths = [len(layout.interval_tokens_of(interval)) for interval in range(layout.intervals)]
    return choose(
        scores,
        lengths=torch.tensor(lengths),
        most_landmarks=reader.most_landmarks,
        free_tokens=reader.context_tokens - used,
        refill_tokens=budget,
        refill_score=reader.refill_score,
    )


def _prompt(read: ReadDocument, selection: Selection, ids: list[int]) -> Prompt:
    reader, layout = read.reader, read.layout
    chosen = selection.intervals.tolist()
    places = [torch.arange(*_bounds(layout.interval_tokens_of(i))) for i in chosen]
    kept = selection.landmarks
    lengths = torch.tensor([len(own) for own in places], dtype=torch.int64)
    spliced = splice(
        reader.prefix,
        [read.l1.take(kept.to(read.l1.keys.device))] if len(kept) else [],
        kept,
        [read.l2.take(torch.cat(places).to(read.l2.keys.device))] if chosen else [],
        torch.repeat_interleave(selection.intervals, lengths),
    )
    return Prompt(
        remembered=remembered(reader.twin, spliced.taken, ids),
        spans=_spans(read, chosen),
        refilled_tokens=sum(len(own) for own in places),
    )


def _spans(read: ReadDocument, chosen: list[int]) -> tuple[Span, ...]:
    starts, ends = read.characters
    return joined([(int(starts[interval]), int(ends[interval])) for interval in chosen])


def _bounds(span: range) -> tuple[int, int]:
    return span.start, span.stop
