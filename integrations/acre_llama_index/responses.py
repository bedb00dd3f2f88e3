"""Answers as the framework's responses: whole or streaming, sync or async."""

from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from typing import Any

from llama_index.core.base.response.schema import (
    AsyncStreamingResponse,
    Response,
    StreamingResponse,
)
from llama_index.core.callbacks import CallbackManager

from acre_llama_index.asking import Asking
from acre_llama_index.events import GenerationEvents
from acre_llama_index.worker import AsyncText


class Answering:
    """Turns one question's answer into a response, and tells the framework's instruments.

    Args:
        asking: The question.
        question: Its text.
        callbacks: The framework's older instruments.
    """

    def __init__(self, asking: Asking, question: str, callbacks: CallbackManager) -> None:
        self._asking = asking
        self._events = GenerationEvents(callbacks, question)
        # A streaming response is given this before there is anything to put into it.
        self._metadata: dict[str, Any] = {}

    def respond(self) -> Response:
        """Generate the whole answer."""
        for _ in self._pieces():
            pass
        return Response(self._asking.stream.answer.text, self._asking.nodes, self._metadata)

    def stream(self) -> StreamingResponse:
        """Give the answer as it is generated; closing its generator stops the model."""
        return StreamingResponse(self._pieces(), self._asking.nodes, self._metadata)

    async def arespond(self, work: AsyncText[Asking | None]) -> Response:
        """Generate the whole answer in the worker."""
        async for _ in self._async_pieces(work):
            pass
        return Response(self._asking.stream.answer.text, self._asking.nodes, self._metadata)

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
        # Stopped early, the worker may still be at its last piece: what it cost is not known.
        self._end()

    def _end(self) -> None:
        usage = self._asking.usage()
        self._metadata.update(usage=usage, seconds=self._asking.seconds())
        self._events.end(self._asking.stream.answer, usage)
