"""An answer as it is generated."""

import time
from collections.abc import Generator, Iterator

import torch

from acre_rag.answer import Answer, Seconds, Source, Usage
from acre_rag.engine.question import Asked, Refilled
from acre_rag.model.decode import decode, rotated_cache
from acre_rag.model.reader import DocumentReader


class AnswerStream:
    """Iterates over the text of an answer; closing it stops the model.

    Attributes:
        sources: What was refilled, known before the first word.
        usage: What that cost, known as soon.
    """

    def __init__(
        self, reader: DocumentReader, asked: Asked, refilled: Refilled, max_new_tokens: int
    ) -> None:
        self.sources: tuple[Source, ...] = asked.sources()
        self.usage: Usage = asked.usage(refilled.landmarks)
        self._asked = asked
        self._refilled = refilled
        self._pieces: list[str] = []
        self._first_token = 0.0
        self._ended = 0.0
        self._generator = self._generate(reader, max_new_tokens)

    @property
    def answer(self) -> Answer:
        """The whole answer, once the stream has ended.

        Raises:
            RuntimeError: The stream has not ended yet.
        """
        if not self._ended:
            raise RuntimeError("the answer is not complete; iterate over the stream to its end")
        return Answer(
            text="".join(self._pieces).strip(),
            sources=self.sources,
            usage=self.usage,
            seconds=self.seconds,
            refill_map=self._asked.refill_map(),
        )

    @property
    def seconds(self) -> Seconds:
        """How long it took, or has taken so far; finding is over before the first word."""
        asked, started = self._asked, self._asked.started
        until = self._ended or time.perf_counter()
        return Seconds(
            load=asked.loaded - started,
            select=asked.selected - asked.loaded,
            fetch=self._refilled.fetched - asked.selected,
            first_token=(self._first_token or until) - started,
            total=until - started,
        )

    def close(self) -> None:
        """Stop the model; what was generated so far becomes the answer."""
        self._generator.close()
        self._ended = self._ended or time.perf_counter()

    def __iter__(self) -> Iterator[str]:
        return self._generator

    def __enter__(self) -> "AnswerStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _generate(self, reader: DocumentReader, max_new_tokens: int) -> Generator[str, None, None]:
        with reader.local.lock, torch.inference_mode():
            cache = rotated_cache(reader.local, reader.twin, self._refilled.cache)
        pieces = decode(reader.local, cache, self._asked.rows.ids, max_new_tokens, self._note_token)
        try:
            for piece in pieces:
                self._pieces.append(piece)
                yield piece
        finally:
            pieces.close()
            self._ended = time.perf_counter()

    def _note_token(self) -> None:
        self._first_token = self._first_token or time.perf_counter()
