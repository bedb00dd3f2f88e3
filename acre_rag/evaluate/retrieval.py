"""The methods that retrieve: chunks of the text before the question, chosen by words or vectors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from acre_rag.errors import ConfigError
from acre_rag.evaluate.documents import OpenDocument
from acre_rag.evaluate.prompts import Budget, Prompt, joined, tokens_of
from acre_rag.model.batched import remembered
from acre_rag.model.sentences import SentenceEncoder
from acre_rag.text.layout import Layout
from acre_rag.text.tokens import interval_characters
from acre_rag.text.word_search import Rank

CHUNK_TOKENS = 64

Index = Callable[[Sequence[str]], Rank]
"""Makes chunks ready to be ranked."""


@dataclass(slots=True)
class Retrieval:
    """Puts the best chunks before the question, in the order of the document.

    Attributes:
        name: Name of the method.
        index: Makes chunks ready to be ranked.
        chunk_tokens: Tokens of a chunk.
    """

    name: str
    index: Index
    chunk_tokens: int = CHUNK_TOKENS
    budgeted: bool = True
    finds_budget: bool = False
    _of: OpenDocument | None = field(default=None, init=False)
    _rank: Rank | None = field(default=None, init=False)

    def prompts(self, opened: OpenDocument, budget: Budget) -> list[Prompt | None]:
        """Make a prompt for each question.

        Raises:
            ConfigError: Not one chunk fits the budget.
        """
        room = tokens_of(self.name, budget)
        if room < self.chunk_tokens:
            raise ConfigError(
                f"a budget of {room} tokens has no room for a chunk of {self.chunk_tokens}; "
                "expected room for one or more: raise the budget, or lower chunk_tokens"
            )
        tokens = opened.document.tokens
        # A chunk is to retrieval what an interval is to a refill.
        layout = Layout(
            tokens=len(tokens.ids),
            interval_tokens=self.chunk_tokens,
            window_tokens=self.chunk_tokens,
            segment_tokens=self.chunk_tokens,
        )
        starts, ends = interval_characters(tokens, layout)
        texts = [opened.document.text[a:b] for a, b in zip(starts, ends, strict=True)]
        if self._of is not opened or self._rank is None:
            self._of, self._rank = opened, self.index(texts)
        frame, twin = opened.reader.frame, opened.reader.twin
        between = frame.encode_with_offsets("\n")[0]
        prefix = remembered(twin, opened.reader.prefix, [])
        found: list[Prompt | None] = []
        scores = self._rank([question.text for question in opened.document.questions])
        ranked = np.argsort(-scores, axis=1, kind="stable")
        for best, rows in zip(ranked, opened.rows, strict=True):
            chosen = sorted(best[: room // self.chunk_tokens].tolist())
            parts = [tokens.ids[_slice(layout, chunk)].tolist() for chunk in chosen]
            ids = parts[0]
            for (before, after), part in zip(pairwise(chosen), parts[1:], strict=True):
                ids = ids + ([] if before + 1 == after else between) + part
            found.append(
                Prompt(
                    remembered=type(prefix)(
                        keys=prefix.keys, values=prefix.values, ids=ids + rows.ids
                    ),
                    spans=joined([(int(starts[c]), int(ends[c])) for c in chosen]),
                    refilled_tokens=sum(map(len, parts)),
                )
            )
        return found


def dense_index(encoder: SentenceEncoder) -> Index:
    """Index chunks by vectors of a sentence model."""

    def index(chunks: Sequence[str]) -> Rank:
        vectors = encoder.encode(chunks)

        def rank(questions: Sequence[str]) -> NDArray[np.float64]:
            return (encoder.encode(questions) @ vectors.T).cpu().double().numpy()

        return rank

    return index


def _slice(layout: Layout, chunk: int) -> slice:
    span = layout.interval_tokens_of(chunk)
    return slice(span.start, span.stop)
