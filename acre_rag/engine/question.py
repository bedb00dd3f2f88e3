"""One question over recalled documents: score, choose, fetch, splice."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from acre_rag.answer import Retrieval, Seconds, Source, Usage
from acre_rag.cache import KVBlock
from acre_rag.engine.recall import Recall, Recalled, RecalledDocument, token_intervals
from acre_rag.engine.sources import find_sources
from acre_rag.errors import BudgetError
from acre_rag.model.prompt import QuestionRows
from acre_rag.model.reader import DocumentReader
from acre_rag.refill import (
    Selection,
    choose,
    mixture_scores,
    published_scores,
    splice,
    weighted_layers,
)
from acre_rag.refill_map import DocumentStrip, RefillMap
from acre_rag.request import Request


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of one of the documents asked.

    Attributes:
        document: Its place among the documents.
        intervals: Its intervals, counted through all documents.
        landmarks: Its L1, not rotated.
    """

    document: int
    intervals: range
    landmarks: KVBlock


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
    """

    recalled: Recalled
    segments: tuple[Segment, ...]
    rows: QuestionRows
    selection: Selection
    started: float
    loaded: float
    selected: float

    def chosen(self, document: int) -> list[int]:
        """Chosen intervals of a document, counted within it."""
        offset = self.offset(document)
        end = offset + self.recalled.documents[document].layout.intervals
        inside = (self.selection.intervals >= offset) & (self.selection.intervals < end)
        return (self.selection.intervals[inside] - offset).tolist()

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
        recomputed = self.recalled.ledger.recomputed_tokens
        return Usage(
            document_tokens=sum(document.layout.tokens for document in documents),
            landmarks=landmarks,
            refilled_tokens=refilled,
            encoded_tokens=recomputed,
            recomputed_tokens=recomputed,
            bytes_read=self.recalled.ledger.archive.bytes_read,
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
        kept = sum(len(self.segments[segment].intervals) for segment in self.selection.segments)
        return Retrieval(
            sources=self.sources(sources),
            usage=self.usage(kept),
            seconds=seconds,
            refill_map=self.refill_map(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Refilled:
    """A cache that is ready to be rotated.

    Attributes:
        cache: Prefix, landmarks and refilled tokens, not rotated.
        landmarks: Landmarks in it.
        fetched: When it was there, in seconds of `time.perf_counter`.
    """

    cache: KVBlock
    landmarks: int
    fetched: float


class Questioner:
    """Asks questions over recalled documents.

    Args:
        reader: Model, adapter and settings.
        recall: Gives chosen L2.
    """

    def __init__(self, reader: DocumentReader, recall: Recall) -> None:
        self._reader = reader
        self._recall = recall

    def ask(self, recalled: Recalled, request: Request, *, started: float) -> Asked:
        """Score the landmarks and choose intervals.

        Raises:
            BudgetError: Question, refill and answer do not fit the context.
        """
        loaded = time.perf_counter()
        rows = self._reader.frame.question_rows(request.question, request.instructions)
        free = self._free_tokens(rows, request.max_new_tokens or 0)
        segments = _segments(recalled.documents)
        lengths = [
            len(document.layout.interval_tokens_of(interval))
            for document in recalled.documents
            for interval in range(document.layout.intervals)
        ]
        selection = choose(
            self._score(segments, rows),
            lengths=torch.tensor(lengths),
            segment_intervals=[segment.intervals for segment in segments],
            keep_landmarks=self._reader.has_landmarks,
            free_tokens=free,
            refill_tokens=request.refill_tokens,
            refill_mass=self._reader.refill_mass,
        )
        return Asked(
            recalled=recalled,
            segments=segments,
            rows=rows,
            selection=selection,
            started=started,
            loaded=loaded,
            selected=time.perf_counter(),
        )

    def refill(self, asked: Asked) -> Refilled:
        """Fetch what was chosen, and splice it into the landmarks.

        Raises:
            BudgetError: The model would see nothing of the documents.
        """
        self._check_seen(asked)
        parts, owners = [], []
        for index, document in enumerate(asked.recalled.documents):
            intervals = asked.chosen(index)
            if intervals:
                parts.append(self._recall.fetch(document, intervals, asked.recalled.ledger))
                owners.append(token_intervals(document, intervals) + asked.offset(index))
        refill = KVBlock.concatenate(parts) if parts else None
        order = torch.cat(owners) if owners else torch.empty(0, dtype=torch.int64)
        fetched = time.perf_counter()
        if not self._reader.has_landmarks:
            # Pooled keys only chose; what they average is no token that the model has seen.
            blocks = [self._reader.prefix] + ([refill] if refill is not None else [])
            return Refilled(cache=KVBlock.concatenate(blocks), landmarks=0, fetched=fetched)
        kept = [asked.segments[segment] for segment in asked.selection.segments]
        landmarks = KVBlock.concatenate([segment.landmarks for segment in kept])
        places = torch.cat([torch.arange(s.intervals.start, s.intervals.stop) for s in kept])
        spliced = splice(landmarks, places, refill, order)
        cache = KVBlock.concatenate([self._reader.prefix, spliced])
        return Refilled(cache=cache, landmarks=landmarks.tokens, fetched=fetched)

    def _free_tokens(self, rows: QuestionRows, max_new_tokens: int) -> int:
        """Count what prefix, question and answer leave of the context: one token or more."""
        context = self._reader.context_tokens
        room = context - self._reader.prefix.tokens - len(rows.ids)
        if room < 1 or (max_new_tokens and room < 2):
            raise BudgetError(
                f"the question and its instructions take {len(rows.ids)} tokens, which leaves "
                f"{room} of a context of {context}; expected room for landmarks and an answer: "
                f"shorten the question by {2 - room} tokens or more",
                needed=len(rows.ids),
                available=max(len(rows.ids) + room - 2, 0),
            )
        if max_new_tokens >= room:
            raise BudgetError(
                f"max_new_tokens is {max_new_tokens}; prefix and question leave {room} of a "
                f"context of {context}; expected at most {room - 1}, landmarks left out: lower it, "
                "or shorten the question",
                needed=max_new_tokens,
                available=room - 1,
            )
        return room - max_new_tokens

    def _check_seen(self, asked: Asked) -> None:
        """Refuse a budget below one interval where no landmarks speak for what is left out."""
        if self._reader.has_landmarks or len(asked.selection.intervals):
            return
        tokens = [document.layout.tokens for document in asked.recalled.documents]
        needed = min(self._reader.config.interval_tokens, *tokens)
        raise BudgetError(
            "nothing would be refilled, and the training-free mode keeps no landmarks: the model "
            f"would see nothing of the documents; expected refill_tokens of {needed} or more and "
            "room for them: raise it, or leave it out and shorten the question",
            needed=needed,
            available=0,
        )

    def _score(self, segments: Sequence[Segment], rows: QuestionRows) -> torch.Tensor:
        landmarks = [segment.landmarks for segment in segments]
        keys = [block.keys for block in landmarks]
        shape, weights = self._reader.twin.shape, self._reader.selection
        if weights is None or self._reader.config.selection == "published":
            queries = self._reader.queries(rows, landmarks, [shape.layers - 1])
            return published_scores(queries, keys, shape.scaling)
        layers = weighted_layers(weights)
        return mixture_scores(
            self._reader.queries(rows, landmarks, layers),
            keys,
            groups=rows.groups,
            weights=weights,
            scaling=shape.scaling,
            layers=layers,
        )


def _segments(documents: Sequence[RecalledDocument]) -> tuple[Segment, ...]:
    segments = []
    offset = 0
    for index, document in enumerate(documents):
        for number in range(document.layout.segments):
            span = document.layout.segment_intervals(number)
            landmarks = document.l1.slice(span.start, span.stop)
            segments.append(
                Segment(index, range(span.start + offset, span.stop + offset), landmarks)
            )
        offset += document.layout.intervals
    return tuple(segments)
