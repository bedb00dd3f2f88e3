"""One thread per engine, so that questions of asyncio never block the loop, nor one another."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar

Result = TypeVar("Result")
Head = TypeVar("Head")


class TextPieces(Protocol):
    """Text as it comes; an `AnswerStream`, a `Completion`, or any generator of strings."""

    def __iter__(self) -> Iterator[str]: ...

    def close(self) -> None:
        """Stop what makes the text."""
        ...


Start: TypeAlias = Callable[[], tuple[Head, TextPieces]]


class Worker:
    """Runs what asyncio asks of an engine, one after the other, away from the event loop."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="acre-worker")

    async def run(self, function: Callable[[], Result]) -> Result:
        """Wait for a function; one that has not begun when this is cancelled never runs."""
        return await asyncio.wrap_future(self._thread.submit(function))

    def begin(self, start: Start[Head]) -> "AsyncText[Head]":
        """Generate text, once all that was begun before has ended.

        Args:
            start: Run in the worker; gives what is known before the text, and the text.
        """
        return AsyncText(self._thread, start)


@dataclass(frozen=True, slots=True)
class _First(Generic[Head]):
    head: Head


class AsyncText(Generic[Head]):
    """Text that a worker generates, for one reader, in whatever event loop that is.

    The worker goes on to the end unless it is stopped, so that an answer which nobody reads keeps
    the model for its own length and no longer.
    """

    def __init__(self, thread: ThreadPoolExecutor, start: Start[Head]) -> None:
        self._lock = threading.Lock()
        self._items: deque[_First[Head] | str | None] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._stopped = threading.Event()
        self._work: Future[None] = thread.submit(self._run, start)
        self._work.add_done_callback(lambda _: self._hand_over(None))

    async def head(self) -> Head:
        """Wait for what is known before the text; call it once, first."""
        try:
            item = await self._next()
        except asyncio.CancelledError:
            self.stop()
            raise
        if isinstance(item, _First):
            return item.head
        self._work.result()  # raises what went wrong
        raise RuntimeError("the worker ended before it began; expected `head` to be called once")

    async def pieces(self) -> AsyncGenerator[str, None]:
        """Give the text as it comes; closing this, or cancelling its reader, stops the model."""
        try:
            while isinstance(item := await self._next(), str):
                yield item
            self._work.result()
        finally:
            self.stop()

    def stop(self) -> None:
        """Stop the model after the piece it is at; what has not begun never runs."""
        self._stopped.set()
        self._work.cancel()

    def _run(self, start: Start[Head]) -> None:
        head, pieces = start()
        with closing(pieces):
            self._hand_over(_First(head))
            if self._stopped.is_set():
                return
            for piece in pieces:
                if self._stopped.is_set():
                    return
                self._hand_over(piece)

    async def _next(self) -> _First[Head] | str | None:
        with self._lock:
            if self._items:
                return self._items.popleft()
            self._reader = reader = asyncio.get_running_loop().create_future()
        await reader
        return self._items.popleft()

    def _hand_over(self, item: _First[Head] | str | None) -> None:
        with self._lock:
            self._items.append(item)
            reader, self._reader = self._reader, None
        if reader is None:
            return
        try:
            # An event loop may be blocked by one that runs inside it: the reader's own is woken.
            reader.get_loop().call_soon_threadsafe(_wake, reader)
        except RuntimeError:  # its loop is closed, and the reader gone with it
            self._stopped.set()


def _wake(reader: "asyncio.Future[None]") -> None:
    if not reader.done():
        reader.set_result(None)
