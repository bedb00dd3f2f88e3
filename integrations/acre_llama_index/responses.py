"""Answers as the framework's responses: whole or streaming, sync or async."""

from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

from llama_index.core.base.response.schema import (
    AsyncStreamingResponse,
    Response,
    StreamingResponse,
)
from llama_index.core.callbacks import CallbackManager

from acre_llama_index.asking import Asking
from acre_llama_index.events import GenerationEvents, tell_refilled
from acre_llama_index.worker import AsyncText
from acre_rag import Answer


class ACREResponse(Response):
    """A response that notebooks show with its refill map.

    Args:
        asking: What was asked; its stream has ended.
        metadata: What it cost.
    """

    def __init__(self, asking: Asking, metadata: dict[str, Any]) -> None:
        # No field of the framework's dataclass: instruments write down fields, and need no map.
        self.answer: Answer = asking.stream.answer
        super().__init__(self.answer.text, asking.nodes, metadata)

    def _repr_html_(self) -> str:
        return self.answer._repr_html_()


class Answering:
    """Turns one question's answer into a response, and tells the framework's instruments.

    Args:
        asking: The question.
        question: Its text.
        callbacks: The framework's older instruments.
    """

    def __init__(self, asking: Asking, question: str, callbacks: CallbackManager) -> None:
        self._asking = asking
        tell_refilled(asking)
        self._events = GenerationEvents(callbacks, question)
        # A streaming response is given this before how long it took is known.
        self._metadata: dict[str, Any] = {"usage": asking.usage()}

    def respond(self) -> Response:
        """Generate the whole answer."""
        for _ in self._pieces():
            pass
        return ACREResponse(self._asking, self._metadata)

    def stream(self) -> StreamingResponse:
        """Give the answer as it is generated; closing its generator stops the model."""
        return StreamingResponse(self._pieces(), self._asking.nodes, self._metadata)

    async def arespond(self, work: AsyncText[Asking | None]) -> Response:
        """Generate the whole answer in the worker."""
        async for _ in self._async_pieces(work):
            pass
        return ACREResponse(self._asking, self._metadata)

    def astream(self, work: AsyncText[Asking | None]) -> AsyncStreamingResponse:
        """Give the answer as the worker generates it; closing its generator stops the model."""
        return AsyncStreamingResponse(self._async_pieces(work), self._asking.nodes, self._metadata)

    def _pieces(self) -> Generator[str, None, None]:
        try:
            yield from self._asking.pieces()
        finally:
            self._end()

    async def _async_pieces(self, work: AsyncText[Asking | None]) -> AsyncGenerator[str, None]:
        async with aclosing(work.pieces()) as pieces:
            async for piece in pieces:
                yield piece
        # Stopped early, the worker may still be at its last piece: how long it takes is not known.
        self._end()

    def _end(self) -> None:
        answer = self._asking.stream.answer
        self._metadata["seconds"] = asdict(answer.seconds)
        self._events.end(answer)
