"""Documents put together from pieces, with questions whose evidence is known.

Everything here is drawn from a generator, so that a step's batch depends on its seed alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from acre_rag.train.packs import Ids, QuestionPack

MOST_AMBIGUOUS_RANK = 3
"""Questions asked of one paragraph make sense for a whole article where word search finds it."""


@dataclass(frozen=True, slots=True)
class PlacedQuestion:
    """A question and where its evidence lies in a composed document.

    Attributes:
        index: Place in the pack.
        spans: Gold occurrences, as (first token, end), the marked one first.
        exact: Whether the spans are the answer's words, rather than all of the evidence.
    """

    index: int
    spans: tuple[tuple[int, int], ...]
    exact: bool


@dataclass(frozen=True, slots=True)
class ComposedDocument:
    """Token ids of a document of a wanted length, and the questions it answers.

    Attributes:
        ids: (tokens,), int64.
        questions: Those whose evidence lies inside.
        documents: Documents of the pack that it has pieces of.
    """

    ids: Ids
    questions: list[PlacedQuestion]
    documents: frozenset[int]


class Composer:
    """Composes documents from one question pack."""

    def __init__(self, pack: QuestionPack) -> None:
        self._pack = pack
        self._first_piece = np.searchsorted(pack.piece_document, np.arange(pack.documents + 1))
        self._lengths = pack.pieces.lengths
        order = np.argsort(pack.evidence[:, 0], kind="stable")
        self._by_piece = order
        self._piece_starts = np.searchsorted(
            pack.evidence[order, 0], np.arange(len(pack.pieces) + 1)
        )

    def in_order(self, rng: np.random.Generator, tokens: int) -> ComposedDocument:
        """Take one document from a random piece on, and fill up with others."""
        document = int(rng.integers(self._pack.documents))
        first, last = self._first_piece[document], self._first_piece[document + 1]
        behind = np.cumsum(self._lengths[first:last][::-1])[::-1]
        starts = max(int((behind >= tokens).sum()), 1)
        pieces = list(range(first + int(rng.integers(starts)), last))
        return self.of_pieces(self._filled(pieces, rng, tokens), tokens, MOST_AMBIGUOUS_RANK)

    def mixed(self, rng: np.random.Generator, tokens: int) -> ComposedDocument:
        """Take pieces of many documents, in any order."""
        pieces: list[int] = []
        missing = tokens
        while missing > 0:
            piece = int(rng.integers(len(self._pack.pieces)))
            if piece not in pieces:
                pieces.append(piece)
                missing -= int(self._lengths[piece])
        return self.of_pieces(pieces, tokens, None)

    def from_start(self, document: int, tokens: int) -> ComposedDocument:
        """Cut a document at its start, and fill a shorter one up with those behind it."""
        pieces: list[int] = []
        missing = tokens
        while missing > 0:
            found = range(self._first_piece[document], self._first_piece[document + 1])
            pieces.extend(found)
            missing -= int(self._lengths[found.start : found.stop].sum())
            document = (document + 1) % self._pack.documents
        return self.of_pieces(pieces, tokens, MOST_AMBIGUOUS_RANK)

    def of_pieces(
        self, pieces: Sequence[int], tokens: int, worst_rank: int | None
    ) -> ComposedDocument:
        """Join pieces, cut at a length, and place the questions whose gold lies inside."""
        lengths = self._lengths[list(pieces)]
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        ids = np.concatenate([self._pack.pieces[piece] for piece in pieces])[:tokens]
        place = {piece: int(start) for piece, start in zip(pieces, starts, strict=True)}
        questions = [
            placed
            for piece, start in place.items()
            for index in self._by_piece[self._piece_starts[piece] : self._piece_starts[piece + 1]]
            if worst_rank is None or self._pack.rank[index] <= worst_rank
            if (placed := self._placed(int(index), start, place, tokens)) is not None
        ]
        documents = frozenset(self._pack.piece_document[list(pieces)].tolist())
        return ComposedDocument(ids, questions, documents)

    def _placed(
        self, index: int, start: int, place: dict[int, int], tokens: int
    ) -> PlacedQuestion | None:
        first, last = self._pack.evidence[index]
        # Evidence of several pieces must stand together, as in its own document.
        expected = start
        for piece in range(first, last):
            if place.get(piece) != expected:
                return None
            expected += int(self._lengths[piece])
        spans = self._pack.spans[index].reshape(-1, 2) + start
        inside = tuple((int(a), int(b)) for a, b in spans if b <= tokens)
        if len(spans):
            # The marked occurrence decides: without it the question may have lost its evidence.
            marked = inside and inside[0] == (int(spans[0, 0]), int(spans[0, 1]))
            return PlacedQuestion(index, inside, exact=True) if marked else None
        return (
            PlacedQuestion(index, ((start, expected),), exact=False) if expected <= tokens else None
        )

    def _filled(self, pieces: list[int], rng: np.random.Generator, tokens: int) -> list[int]:
        missing = tokens - int(self._lengths[pieces].sum())
        taken = set(pieces)
        while missing > 0:
            document = int(rng.integers(self._pack.documents))
            found = range(self._first_piece[document], self._first_piece[document + 1])
            if found.start in taken or not found:
                continue
            pieces.extend(found)
            taken.update(found)
            missing -= int(self._lengths[found.start : found.stop].sum())
        return pieces
