"""An answer as it is generated."""

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

import torch

from acre_rag.answer import Answer, Seconds, Source, Usage
from acre_rag.cache import RoomyBlock
from acre_rag.config import Plan
from acre_rag.engine.asked import Asked, Refilled
from acre_rag.engine.whole import WholeText
from acre_rag.model.decode import asked_cache, decode
from acre_rag.model.reader import DocumentReader


@dataclass(slots=True)
class Course:
    """How far an answer has come; all that the running generator holds on to.

    Attributes:
        pieces: Text so far.
        tokens: Tokens made so far.
        first_token: When the first token came, in seconds of `time.perf_counter`; 0 before.
        ended: When it ended; 0 before.
    """

    pieces: list[str] = field(default_factory=list)
    tokens: int = 0
    first_token: float = 0.0
    ended: float = 0.0

    def note_token(self) -> None:
        """Count a token, and take the time of the first."""
        self.tokens += 1
        self.first_token = self.first_token or time.perf_counter()


class AnswerStream:
    """Iterates over the text of an answer; closing it, or dropping it, stops the model.

    Attributes:
        sources: What was refilled, known before the first word.
        usage: What that cost, known as soon.
        plan: How it is answered.
        prompt_tokens: Tokens of the prompt beside those of the refilled cache that are the
            documents': prefix, question and instructions; with the plan `prefill`, the documents
            too.
    """

    def __init__(
        self,
        reader: DocumentReader,
        asked: Asked | WholeText,
        refilled: Refilled,
        max_new_tokens: int,
    ) -> None:
        self.sources: tuple[Source, ...] = asked.sources()
        self.usage: Usage = asked.usage(refilled.landmarks)
        self.plan: Plan = asked.plan
        before = reader.prefix.tokens if refilled.cache is not None else 0
        self.prompt_tokens: int = before + len(asked.ids)
        self._asked = asked
        self._fetched = refilled.fetched
        self._course = Course()
        self._generator = _generate(
            reader, asked.ids, [refilled.cache], max_new_tokens, self._course
        )

    @property
    def answer(self) -> Answer:
        """The whole answer, once the stream has ended.

        Raises:
            RuntimeError: The stream has not ended yet.
        """
        if not self._course.ended:
            raise RuntimeError("the answer is not complete; iterate over the stream to its end")
        return Answer(
            text="".join(self._course.pieces).strip(),
            sources=self.sources,
            usage=self.usage,
            seconds=self.seconds,
            refill_map=self._asked.refill_map(),
            plan=self.plan,
        )

    @property
    def new_tokens(self) -> int:
        """Tokens made so far, the one that ends the answer among them."""
        return self._course.tokens

    @property
    def seconds(self) -> Seconds:
        """How long it took, or has taken so far; finding is over before the first word."""
        asked, started = self._asked, self._asked.started
        until = self._course.ended or time.perf_counter()
        return Seconds(
            load=asked.loaded - started,
            select=asked.selected - asked.loaded,
            fetch=self._fetched - asked.selected,
            first_token=(self._course.first_token or until) - started,
            total=until - started,
        )

    def finish(self) -> Answer:
        """Generate what is left of the answer, and give all of it."""
        with self:
            for _ in self:
                pass
        return self.answer

    def close(self) -> None:
        """Stop the model; what was generated so far becomes the answer."""
        self._generator.close()
        self._course.ended = self._course.ended or time.perf_counter()

    def __iter__(self) -> Iterator[str]:
        return self._generator

    def __enter__(self) -> "AnswerStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _generate(
    reader: DocumentReader,
    ids: list[int],
    refilled: list[RoomyBlock | None],
    limit: int,
    course: Course,
) -> Generator[str, None, None]:
    """Rotate the one refilled cache, if there is one, which is let go of then, and decode."""
    block = refilled.pop()
    cache = None
    if block is not None:
        with reader.local.lock, torch.inference_mode():
            cache, ids = asked_cache(reader.local, reader.twin, block, ids)
        del block
    pieces = decode(reader.local, cache, ids, limit, course.note_token)
    try:
        for piece in pieces:
            course.pieces.append(piece)
            yield piece
    finally:
        pieces.close()
        course.ended = time.perf_counter()
