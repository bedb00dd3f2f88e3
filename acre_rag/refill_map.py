"""Where a question looked, over the whole length of the documents asked."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentStrip:
    """One document asked: what each of its intervals scored, and which were chosen.

    Attributes:
        document: Id of the document.
        characters: Length of its text.
        starts: First character of each interval.
        ends: Character after the last of each interval.
        scores: Attention that each interval's landmark got; over all strips they add up to 1.
        chosen: Chosen intervals, rising.
    """

    document: str
    characters: int
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    scores: tuple[float, ...]
    chosen: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefillMap:
    """Where a question looked.

    Attributes:
        strips: Documents asked, in the order spliced.
    """

    strips: tuple[DocumentStrip, ...]
