"""One question: recall, score, choose, fetch, splice."""

import time
from collections.abc import Sequence

import torch

from acre_rag.cache import KVBlock
from acre_rag.engine.asked import Asked, Refilled, Segment, segments_of
from acre_rag.engine.recall import Recall, token_intervals
from acre_rag.errors import BudgetError, DocumentReplacedError
from acre_rag.model.prompt import QuestionRows
from acre_rag.model.reader import DocumentReader
from acre_rag.refill import choose, mixture_scores, published_scores, splice, weighted_layers
from acre_rag.request import Request
from acre_rag.store.missing import nothing_stored


class Questioner:
    """Asks questions over stored documents.

    Args:
        reader: Model, adapter and settings.
        recall: Gives landmarks, and chosen L2.
    """

    def __init__(self, reader: DocumentReader, recall: Recall) -> None:
        self._reader = reader
        self._recall = recall

    def prepare(self, request: Request) -> tuple[Asked, Refilled]:
        """Choose and refill; once more where a document was replaced meanwhile.

        Raises:
            DocumentNotFoundError: A document is not stored, or none is.
            DocumentReplacedError: Documents are replaced faster than they can be asked.
            BudgetError: Question, refill and answer do not fit the context.
        """
        asked = self.ask(request)
        try:
            return asked, self.refill(asked)
        except DocumentReplacedError:
            asked = self.ask(request)
            return asked, self.refill(asked)

    def ask(self, request: Request) -> Asked:
        """Score the landmarks and choose intervals.

        Raises:
            DocumentNotFoundError: A document is not stored, or none is.
            BudgetError: Question, refill and answer do not fit the context.
        """
        started = time.perf_counter()
        try:
            recalled = self._recall.recall(request.documents)
        except DocumentReplacedError:
            recalled = self._recall.recall(request.documents)
        if not recalled.documents:
            raise nothing_stored(recalled.ledger.archive, self._reader.local.name)
        loaded = time.perf_counter()
        rows = self._reader.frame.question_rows(request.question, request.instructions)
        free = self._free_tokens(rows, request.max_new_tokens or 0)
        segments = segments_of(recalled.documents)
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
            refill_score=self._reader.refill_score,
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
        most = len(rows.ids) + room - (2 if max_new_tokens else 1)
        if len(rows.ids) > most:
            raise BudgetError(
                f"the question and its instructions take {len(rows.ids)} tokens; expected at most "
                f"{most}, what a context of {context} has beside prefix, landmarks and answer: "
                f"shorten the question by {len(rows.ids) - most} tokens or more",
                needed=len(rows.ids),
                available=max(most, 0),
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
