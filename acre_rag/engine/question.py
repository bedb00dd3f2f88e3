"""One question: find, plan, recall, score, choose, fetch, splice."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch

from acre_rag.cache import KVBlock, RoomyBlock
from acre_rag.config import Plan
from acre_rag.engine.asked import Asked, Loaded, Refilled, segments_of
from acre_rag.engine.planning import Planner
from acre_rag.engine.recall import Recall
from acre_rag.engine.scored import landmark_scores
from acre_rag.engine.whole import WholeText, whole_prompt
from acre_rag.engine.workload import Found
from acre_rag.errors import BudgetError, DocumentReplacedError
from acre_rag.model.prompt import QuestionRows
from acre_rag.model.reader import DocumentReader
from acre_rag.refill import MakeRoom, Splicing, choose
from acre_rag.request import Request, about_question
from acre_rag.store.archive import CacheArchive
from acre_rag.store.manifest import Manifest
from acre_rag.store.missing import nothing_stored


class Questioner:
    """Asks questions over stored documents.

    Args:
        reader: Model, adapter and settings.
        recall: Gives landmarks, and chosen L2.
        archive: Where caches are.
        planner: Tells how to answer.
    """

    def __init__(
        self, reader: DocumentReader, recall: Recall, archive: CacheArchive, planner: Planner
    ) -> None:
        self._reader = reader
        self._recall = recall
        self._archive = archive
        self._planner = planner

    def prepare(self, request: Request) -> tuple[Asked | WholeText, Refilled]:
        """Get all that comes before the answer, by plan; again if a document is replaced.

        Raises:
            DocumentNotFoundError: A document is not stored, or none is.
            DocumentReplacedError: Documents are replaced faster than they can be asked.
            BudgetError: Question, refill and answer do not fit the context, or with the policy
                `prefill` the whole text does not.
        """
        # One answer at a time may use the memory that stands; others are given their own.
        room = self._reader.local.replays.room
        try:
            return self._prepare(request, room)
        except DocumentReplacedError:
            return self._prepare(request, room)

    def find(self, request: Request) -> Found:
        """Find the documents, and what they, the question and the answer leave of the context.

        Raises:
            DocumentNotFoundError: A document is not stored, or none is.
            BudgetError: Question and answer do not fit the context.
        """
        started = time.perf_counter()
        return self._found(request, self._manifests(request), started)

    def ask(self, request: Request) -> Asked:
        """Score the landmarks and choose intervals.

        Raises:
            DocumentNotFoundError: A document is not stored, or none is.
            BudgetError: Question, refill and answer do not fit the context.
        """
        try:
            return self._choose(self.find(request), request)
        except DocumentReplacedError:
            return self._choose(self.find(request), request)

    def choose_all(self, requests: Sequence[Request]) -> list[Asked | WholeText]:
        """Choose for several questions of the same documents, whose landmarks are loaded once.

        What is wrong with a question is found out here, before anything is fetched.

        Raises:
            DocumentNotFoundError: A document is not stored, or none is.
            DocumentReplacedError: Documents are replaced faster than they can be asked.
            BudgetError: A question, its refill and its answer do not fit the context.
        """
        try:
            return self._choose_all(requests)
        except DocumentReplacedError:
            return self._choose_all(requests)

    def refill_chosen(
        self, asked: Asked | WholeText, request: Request
    ) -> tuple[Asked | WholeText, Refilled]:
        """Get the cache of a question that has chosen; ask again if a document was replaced.

        Raises:
            DocumentReplacedError: Documents are replaced faster than they can be asked.
        """
        try:
            return self._refilled(asked, RoomyBlock.like)
        except DocumentReplacedError:
            return self._prepare(request, RoomyBlock.like)

    def _prepare(self, request: Request, room: MakeRoom) -> tuple[Asked | WholeText, Refilled]:
        found = self.find(request)
        plan = self._planner.plan(found, request)
        asked = self._whole(found) if plan == "prefill" else self._choose(found, request, plan)
        return self._refilled(asked, room)

    def _refilled(
        self, asked: Asked | WholeText, room: MakeRoom
    ) -> tuple[Asked | WholeText, Refilled]:
        if isinstance(asked, WholeText):
            return asked, Refilled(cache=None, landmarks=0, fetched=asked.loaded)
        return asked, self.refill(asked, room)

    def _choose_all(self, requests: Sequence[Request]) -> list[Asked | WholeText]:
        started = time.perf_counter()
        manifests = self._manifests(requests[0])
        found: list[Found] = []
        plans: list[Plan] = []
        for place, request in enumerate(requests):
            with about_question(place, len(requests)):
                found.append(self._found(request, manifests, started))
                plans.append(self._planner.plan(found[place], request))
        chosen: dict[int, Asked | WholeText] = {}
        for plan in dict.fromkeys(plans):
            places = [place for place, other in enumerate(plans) if other == plan]
            if plan == "prefill":
                chosen |= {place: self._whole(found[place]) for place in places}
                continue
            loaded = self._load(manifests, plan)
            rows = [found[place].rows for place in places]
            scores = landmark_scores(self._reader, loaded.segments, rows)
            for place, own in zip(places, scores, strict=True):
                with about_question(place, len(requests)):
                    asked = self._select(loaded, found[place], requests[place], own)
                    self._check_seen(asked)
                chosen[place] = asked
                # What they share is counted with the first.
                loaded = replace(loaded, recalled=self._recall.shared(loaded.recalled))
        return [chosen[place] for place in range(len(requests))]

    def _manifests(self, request: Request) -> tuple[Manifest, ...]:
        manifests = tuple(self._recall.find(request.documents))
        if not manifests:
            raise nothing_stored(self._archive, self._reader.local.name)
        return manifests

    def _found(self, request: Request, manifests: tuple[Manifest, ...], started: float) -> Found:
        rows = self._reader.frame.question_rows(request.question, request.instructions)
        free = self._free_tokens(rows, request.max_new_tokens or 0)
        return Found(manifests=manifests, rows=rows, free_tokens=free, started=started)

    def _whole(self, found: Found) -> WholeText:
        loaded = time.perf_counter()
        return WholeText(
            manifests=found.manifests,
            ids=whole_prompt(self._reader.frame, found.manifests, found.rows),
            started=found.started,
            loaded=loaded,
            selected=loaded,
        )

    def _choose(self, found: Found, request: Request, plan: Plan = "refill") -> Asked:
        loaded = self._load(found.manifests, plan)
        [scores] = landmark_scores(self._reader, loaded.segments, [found.rows])
        return self._select(loaded, found, request, scores)

    def _load(self, manifests: Sequence[Manifest], plan: Plan) -> Loaded:
        recalled = self._recall.load(manifests, encode=plan == "recompute")
        loaded = time.perf_counter()
        segments = segments_of(recalled.documents)
        return Loaded(recalled=recalled, segments=segments, loaded=loaded, plan=plan)

    def _select(
        self, loaded: Loaded, found: Found, request: Request, scores: torch.Tensor
    ) -> Asked:
        selection = choose(
            scores,
            lengths=loaded.recalled.interval_lengths(),
            most_landmarks=self._reader.most_landmarks,
            free_tokens=found.free_tokens,
            refill_tokens=request.refill_tokens,
            refill_score=self._reader.refill_score,
        )
        return Asked(
            recalled=loaded.recalled,
            segments=loaded.segments,
            rows=found.rows,
            selection=selection,
            started=found.started,
            loaded=loaded.loaded,
            selected=time.perf_counter(),
            plan=loaded.plan,
        )

    def refill(self, asked: Asked, room: MakeRoom = RoomyBlock.like) -> Refilled:
        """Fetch what was chosen, and splice it into the landmarks.

        Args:
            asked: A question that has chosen.
            room: Gives the memory for it; where that is lent, it must be answered by itself.

        Raises:
            BudgetError: The model would see nothing of the documents.
        """
        self._check_seen(asked)
        kept, owners = asked.selection.landmarks, asked.token_intervals()
        firsts = asked.first_tokens()
        splicing = Splicing(self._reader.prefix, kept, owners, room)
        first = 0
        for segment in asked.segments:
            landmarks = segment.kept(kept)
            if landmarks.tokens:
                splicing.put_landmarks(first, landmarks)
                first += landmarks.tokens
        for index, document in enumerate(asked.recalled.documents):
            put = partial(_put_tokens, splicing, firsts, asked.offset(index))
            if intervals := asked.chosen(index):
                self._recall.fetch(document, intervals, asked.recalled.ledger, put)
        return Refilled(cache=splicing.done(), landmarks=first, fetched=time.perf_counter())

    def _free_tokens(self, rows: QuestionRows, max_new_tokens: int) -> int:
        """Count what prefix, question and answer leave of the context: one token or more."""
        context = self._reader.context_tokens
        room = context - self._reader.prefix.tokens - self._reader.question_landmarks
        room -= len(rows.ids)
        most = len(rows.ids) + room - (2 if max_new_tokens else 1)
        if len(rows.ids) > most:
            raise BudgetError(
                f"the question and its instructions take {len(rows.ids)} tokens; expected at most "
                f"{most}, what a context of {context} has beside the prefix, a landmark and an "
                f"answer: shorten the question by {len(rows.ids) - most} tokens or more",
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
        if len(asked.selection.intervals) or len(asked.selection.landmarks):
            return
        tokens = [document.layout.tokens for document in asked.recalled.documents]
        needed = min(self._reader.config.interval_tokens, *tokens)
        raise BudgetError(
            "nothing would be refilled, and no landmark kept (the training-free mode and "
            "most_landmarks=0 keep none): the model would see nothing of the documents; expected "
            f"refill_tokens of {needed} or more and room for them: raise it, or leave it out and "
            "shorten the question",
            needed=needed,
            available=0,
        )


def _put_tokens(
    splicing: Splicing, firsts: Mapping[int, int], offset: int, own: list[int], block: KVBlock
) -> None:
    """Put the tokens of some intervals of a document, equally many of each.

    Args:
        splicing: Where they go.
        firsts: Number of the first refilled token of each chosen interval.
        offset: Intervals of the documents before.
        own: Intervals, within their document.
        block: Their tokens.
    """
    splicing.put_tokens([firsts[interval + offset] for interval in own], block)
