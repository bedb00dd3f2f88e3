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

from acre_llama_index.asking import Asking
from acre_llama_index.telling import Generating
from acre_rag import Answer, AsyncText


class ACREResponse(Response):
    """A response that notebooks show with its refill map.

    Args:
        answering: What was answered, to its end.
    """

    def __init__(self, answering: "Answering") -> None:
        # No field of the framework's dataclass: instruments write down fields, and need no map.
        self.answer: Answer = answering.asking.stream.answer
        super().__init__(self.answer.text, answering.asking.nodes, answering.metadata)

    def __str__(self) -> str:
        """Give the text; the framework would make "None" of an empty one."""
        return self.answer.text

    def _repr_html_(self) -> str:
        return self.answer._repr_html_()


class ACREStreamingResponse(StreamingResponse):
    """A response that gives its text as it comes; closing its generator stops the model.

    Args:
        answering: What is answered.
    """

    def __init__(self, answering: "Answering") -> None:
        self._answering = answering
        super().__init__(answering.pieces(), answering.asking.nodes, answering.metadata)

    def __str__(self) -> str:
        """Read to the end; the framework would make "None" of an empty text."""
        super().__str__()
        return self.response_txt or ""

    def get_response(self) -> Response:
        """Read to the end; what was stopped before it has no refill map."""
        response: Response = super().get_response()
        return ACREResponse(self._answering) if self._answering.complete else response


class ACREAsyncStreamingResponse(AsyncStreamingResponse):
    """A response that gives its text as a worker generates it; closing it stops the model.

    Args:
        answering: What is answered.
        text: The answer's text, as it comes.
    """

    def __init__(self, answering: "Answering", text: AsyncText[Asking | None]) -> None:
        self._answering = answering
        super().__init__(answering.apieces(text), answering.asking.nodes, answering.metadata)

    def __str__(self) -> str:
        """Read to the end; the framework would make "None" of an empty text."""
        super().__str__()
        return self.response_txt or ""

    async def get_response(self) -> Response:
        """Read to the end; what was stopped before it has no refill map."""
        response: Response = await super().get_response()
        return ACREResponse(self._answering) if self._answering.complete else response


class Answering:
    """One question's answer on its way to a response.

    Args:
        asking: The question.
        generating: Tells the framework's instruments.

    Attributes:
        asking: The question.
        metadata: What it costs; how long it took as soon as that is known.
        complete: Whether the answer has come to its end.
    """

    def __init__(self, asking: Asking, generating: Generating) -> None:
        self.asking = asking
        self.metadata: dict[str, Any] = {"usage": asking.usage()}
        self.complete = False
        self._generating = generating

    def pieces(self) -> Generator[str, None, None]:
        """Give the text as it comes; closing this stops the model."""
        try:
            with self._generating as generating, self.asking.stream as stream:
                for piece in stream:
                    generating.tell(piece)
                    yield piece
            self.complete = True
        finally:
            self._take_time()

    async def apieces(self, text: AsyncText[Asking | None]) -> AsyncGenerator[str, None]:
        """Give the text as a worker generates it; closing this stops the model."""
        try:
            with self._generating as generating:
                async with aclosing(text.pieces()) as pieces:
                    async for piece in pieces:
                        generating.tell(piece)
                        yield piece
            self.complete = True
        finally:
            self._take_time()

    def _take_time(self) -> None:
        # Of an answer that was stopped: up to now, though the worker may be at its last piece.
        self.metadata["seconds"] = asdict(self.asking.stream.seconds)
