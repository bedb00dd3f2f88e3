"""What becomes of a question on its way: chosen intervals, then a cache that is ready."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from acre_rag.answer import Retrieval, Seconds, Source, Usage
from acre_rag.cache import KVBlock, RoomyBlock
from acre_rag.config import Plan
from acre_rag.engine.recalled import Recalled, RecalledDocument
from acre_rag.engine.sources import find_sources
from acre_rag.model.prompt import QuestionRows
from acre_rag.refill import Selection
from acre_rag.refill_map import DocumentStrip, RefillMap


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of one of the documents asked.

    Attributes:
        document: Its place among the documents.
        intervals: Its intervals, counted through all documents.
        landmarks: Its L1, not rotated, on the host.
    """

    document: int
    intervals: range
    landmarks: KVBlock

    def kept(self, landmarks: torch.Tensor) -> KVBlock:
        """Take those of its landmarks that are among some, rising, (kept,), int64."""
        span = self.intervals
        own = landmarks[(landmarks >= span.start) & (landmarks < span.stop)]
        return self.landmarks if len(own) == len(span) else self.landmarks.take(own - span.start)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Documents whose landmarks are there, for one question or several.

    Attributes:
        recalled: Documents asked, and the costs so far.
        segments: All segments of those documents, in order.
        loaded: When the landmarks were there, in seconds of `time.perf_counter`.
        plan: `refill`, or `recompute` where the documents were encoded again.
    """

    recalled: Recalled
    segments: tuple[Segment, ...]
    loaded: float
    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question that has chosen its intervals.

    Attributes:
        recalled: Documents asked, and the costs so far.
        segments: All segments of those documents, in order.
        rows: Token ids that follow the documents.
        selection: What was chosen.
        started: When the question came, in seconds of `time.perf_counter`.
        loaded: When the landmarks were there.
        selected: When the intervals were chosen.
        plan: `refill`, or `recompute` where the documents were encoded again.
    """

    recalled: Recalled
    segments: tuple[Segment, ...]
    rows: QuestionRows
    selection: Selection
    started: float
    loaded: float
    selected: float
    plan: Plan = "refill"

    @property
    def ids(self) -> list[int]:
        """Token ids that follow the refilled cache."""
        return self.rows.ids

    def chosen(self, document: int) -> list[int]:
        """Chosen intervals of a document, counted within it."""
        offset = self.offset(document)
        end = offset + self.recalled.documents[document].layout.intervals
        inside = (self.selection.intervals >= offset) & (self.selection.intervals < end)
        return (self.selection.intervals[inside] - offset).tolist()

    def token_intervals(self) -> torch.Tensor:
        """Interval of each chosen raw token, rising, (tokens,), int64."""
        chosen = self.selection.intervals
        return chosen.repeat_interleave(self.recalled.interval_lengths()[chosen])

    def first_tokens(self) -> dict[int, int]:
        """Number of chosen raw tokens before each chosen interval."""
        chosen = self.selection.intervals
        lengths = self.recalled.interval_lengths()[chosen]
        before = lengths.cumsum(0) - lengths
        return dict(zip(chosen.tolist(), before.tolist(), strict=True))

    def offset(self, document: int) -> int:
        """Number of intervals in the documents before one."""
        return sum(d.layout.intervals for d in self.recalled.documents[:document])

    def scores(self, document: int) -> list[float]:
        """Scores of all intervals of a document."""
        offset = self.offset(document)
        intervals = self.recalled.documents[document].layout.intervals
        return self.selection.scores[offset : offset + intervals].tolist()

    def sources(self, count: int | None = None) -> tuple[Source, ...]:
        """Runs of chosen intervals, in order, split or cut to give `count`."""
        found = [
            (document.manifest, self.chosen(index), self.scores(index))
            for index, document in enumerate(self.recalled.documents)
        ]
        return find_sources(found, count)

    def refill_map(self) -> RefillMap:
        """Scores and chosen intervals over the characters of each document."""
        strips = [
            DocumentStrip(
                document=document.manifest.document_id,
                characters=len(document.manifest.text),
                starts=tuple(document.manifest.interval_starts),
                ends=tuple(document.manifest.interval_ends),
                scores=tuple(self.scores(index)),
                chosen=tuple(self.chosen(index)),
            )
            for index, document in enumerate(self.recalled.documents)
        ]
        return RefillMap(strips=tuple(strips))

    def usage(self, landmarks: int) -> Usage:
        """Sum up the costs so far."""
        documents = self.recalled.documents
        refilled = sum(
            len(documents[index].layout.interval_tokens_of(interval))
            for index in range(len(documents))
            for interval in self.chosen(index)
        )
        ledger = self.recalled.ledger
        return Usage(
            document_tokens=sum(document.layout.tokens for document in documents),
            landmarks=landmarks,
            refilled_tokens=refilled,
            encoded_tokens=ledger.encoded_tokens + ledger.recomputed_tokens,
            recomputed_tokens=ledger.recomputed_tokens,
            bytes_read=ledger.archive.bytes_read,
        )

    def retrieval(self, sources: int | None) -> Retrieval:
        """Give the sources alone, nothing having been refilled."""
        total = time.perf_counter() - self.started
        seconds = Seconds(
            load=self.loaded - self.started,
            select=self.selected - self.loaded,
            fetch=0.0,
            first_token=0.0,
            total=total,
        )
        return Retrieval(
            sources=self.sources(sources),
            usage=self.usage(len(self.selection.landmarks)),
            seconds=seconds,
            refill_map=self.refill_map(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Refilled:
    """A cache that is ready to be rotated.

    Attributes:
        cache: Prefix, landmarks and refilled tokens, not rotated; `None` where nothing is refilled
            and the whole prompt is prefilled.
        landmarks: Landmarks in it.
        fetched: When it was there, in seconds of `time.perf_counter`.
    """

    cache: RoomyBlock | None
    landmarks: int
    fetched: float


def segments_of(documents: Sequence[RecalledDocument]) -> tuple[Segment, ...]:
    """Cut the landmarks of documents into segments, in order, none copied."""
    segments = []
    offset = 0
    for index, document in enumerate(documents):
        for number in range(document.layout.segments):
            span = document.layout.segment_intervals(number)
            intervals = range(span.start + offset, span.stop + offset)
            segments.append(Segment(index, intervals, document.landmarks[number]))
        offset += document.layout.intervals
    return tuple(segments)
