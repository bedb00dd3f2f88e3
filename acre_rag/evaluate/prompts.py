"""What a method gives the model for one question, and what of the document that shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from acre_rag.evaluate.dataset import Question, Span
from acre_rag.evaluate.documents import OpenDocument
from acre_rag.model.batched import RememberedPrompt
from acre_rag.model.local import LocalModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A prompt, and where in the document its raw tokens are from.

    Attributes:
        remembered: Memory and token ids.
        spans: Characters of the document that are there as raw tokens, rising; `None` where each
            head sees others.
        refilled_tokens: Raw tokens of the document.
        cut: Whether the document was cut in the middle, its context being too short.
        answered_by: Model that answers; `None` for the frozen one.
    """

    remembered: RememberedPrompt
    spans: tuple[Span, ...] | None
    refilled_tokens: int
    cut: bool = False
    answered_by: LocalModel | None = None


Budget = int | Literal["auto"]
"""Raw tokens that a method may show, or as many as it finds itself that a question needs."""


class Method(Protocol):
    """A way to bring a document and a question before the model."""

    @property
    def name(self) -> str:
        """Name in the results."""
        ...

    @property
    def budgeted(self) -> bool:
        """Whether the budget makes a difference."""
        ...

    @property
    def finds_budget(self) -> bool:
        """Whether it can tell from a question how large a budget it needs."""
        ...

    def prompts(self, opened: OpenDocument, budget: Budget) -> list[Prompt | None]:
        """Make a prompt for each question; `None` for one that the method cannot be asked.

        Raises:
            ValueError: The budget is `auto`, and the method cannot find one.
        """
        ...


def tokens_of(name: str, budget: Budget) -> int:
    """Give a budget as a number.

    Raises:
        ValueError: The method of that name was asked to find one, and cannot.
    """
    if budget == "auto":
        raise ValueError(f"{name} cannot find a budget itself; expected a number: give one")
    return budget


def joined(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Join spans, rising, that touch or overlap."""
    runs: list[Span] = []
    for start, end in spans:
        if runs and start <= runs[-1][1]:
            runs[-1] = (runs[-1][0], max(end, runs[-1][1]))
        else:
            runs.append((start, end))
    return tuple(runs)


def recalls_evidence(question: Question, spans: Sequence[Span] | None) -> bool | None:
    """Tell whether one whole gold occurrence is in sight; `None` where that cannot be told."""
    if spans is None or not question.occurrences:
        return None
    return any(
        start <= first and last <= end
        for first, last in question.occurrences
        for start, end in spans
    )


def touching(spans: Sequence[Span], starts: np.ndarray, ends: np.ndarray) -> list[int]:
    """Find the intervals that share a character with any span, rising."""
    hit = np.zeros(len(starts), dtype=bool)
    for first, last in spans:
        hit |= (starts < last) & (ends > first)
    return [int(place) for place in hit.nonzero()[0]]
