"""Every row of every window at once: what each sees, and at which position it sees it.

Written from the paper: windows see the prefix, the landmarks of the windows before them in their
segment, and themselves causally. A landmark has one position inside its own window, and its rank
behind the prefix when a later window looks at it. Nothing here is fast, and nothing is shared with
the library.
"""

from dataclasses import dataclass, field

Seen = tuple[tuple[int, ...], int]
"""Rows whose un-rotated keys and values are averaged (most often one), and their position."""


@dataclass
class Row:
    """One row: its token (`None`: the landmark), its position, and all that it sees."""

    token: int | None
    position: int
    sees: list[Seen]


@dataclass
class ReadDocument:
    """Rows of one document: of each token, of each landmark, and of each interval's tokens."""

    tokens: list[int] = field(default_factory=list)
    landmarks: list[int] = field(default_factory=list)
    intervals: list[list[int]] = field(default_factory=list)


class Rows:
    """Rows of a prefix, of documents behind it, and of questions behind what was spliced."""

    def __init__(self, prefix: list[int]) -> None:
        self.rows: list[Row] = []
        self.prefix: list[Seen] = []
        self.prefix = self.follow([], prefix)

    def follow(self, before: list[Seen], ids: list[int]) -> list[Seen]:
        """Add ordinary rows behind whatever `before` holds, at the positions that follow."""
        seen = list(before)
        for token in ids:
            self._add(token, seen)
        return seen[len(before) :]

    def document(
        self,
        ids: list[int],
        *,
        interval: int,
        window: int,
        segment: int,
        memory: str,
    ) -> ReadDocument:
        """Read a document; earlier windows are seen as `landmarks`, `pooled` or `exact`."""
        read = ReadDocument()
        remembered: list[tuple[int, ...]] = []
        for start in range(0, len(ids), window):
            if start % segment == 0:
                remembered = []
            seen = self.prefix + [
                (rows, len(self.prefix) + rank) for rank, rows in enumerate(remembered)
            ]
            of_window = []
            for first in range(start, min(start + window, len(ids)), interval):
                last = min(first + interval, start + window, len(ids))
                rows = [self._add(ids[place], seen) for place in range(first, last)]
                read.tokens += rows
                read.intervals.append(rows)
                if memory == "landmarks":
                    read.landmarks.append(self._add(None, seen))
                    of_window.append((read.landmarks[-1],))
                elif memory == "pooled":
                    of_window.append(tuple(rows))
                else:
                    of_window += [(row,) for row in rows]
            remembered += of_window
        return read

    def spliced(
        self,
        documents: list[ReadDocument],
        chosen: list[set[int]],
        *,
        landmarks: bool = True,
        kept: list[set[int]] | None = None,
    ) -> list[Seen]:
        """Prefix, then each interval: its tokens where it was chosen, then its landmark.

        Landmarks of intervals that are not `kept` are left out, where that is given.
        """
        seen = list(self.prefix)
        for number, (read, wanted) in enumerate(zip(documents, chosen, strict=True)):
            for interval, rows in enumerate(read.intervals):
                if interval in wanted:
                    for row in rows:
                        seen.append(((row,), len(seen)))
                if landmarks and (kept is None or interval in kept[number]):
                    seen.append(((read.landmarks[interval],), len(seen)))
        return seen

    def _add(self, token: int | None, seen: list[Seen]) -> int:
        """Add a row that sees everything in `seen` and itself, and put it there."""
        number, position = len(self.rows), len(seen)
        seen.append(((number,), position))
        self.rows.append(Row(token, position, list(seen)))
        return number
