"""One thread per engine, so that questions of asyncio never block the loop, nor one another."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from acre_rag import ACREEngine

Result = TypeVar("Result")
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class _Made(Generic[Item]):
    item: Item


class Worker:
    """Runs what an engine is asked, one after the other, away from the event loop."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="acre-langchain")

    async def run(self, function: Callable[[], Result]) -> Result:
        """Wait for a function; one that has not begun when this is cancelled never runs."""
        return await asyncio.wrap_future(self._thread.submit(function))

    async def stream(
        self, start: Callable[[], Generator[Item, None, None]]
    ) -> AsyncGenerator[Item, None]:
        """Give what a generator makes in the worker, as it comes; closing this closes that.

        The worker does not wait for its reader: what nobody reads keeps the model for its own
        length and no longer.
        """
        loop = asyncio.get_running_loop()
        made: asyncio.Queue[_Made[Item] | None] = asyncio.Queue()
        stopped = threading.Event()

        def hand_over(item: _Made[Item] | None) -> None:
            try:
                loop.call_soon_threadsafe(made.put_nowait, item)
            except RuntimeError:  # the loop is closed: nobody listens any more
                stopped.set()

        def work() -> None:
            with closing(start()) as items:
                for item in items:
                    if stopped.is_set():
                        return
                    hand_over(_Made(item))

        running = self._thread.submit(work)
        running.add_done_callback(lambda _: hand_over(None))
        try:
            while (one := await made.get()) is not None:
                yield one.item
            running.result()  # raises what went wrong
        finally:
            stopped.set()
            running.cancel()


_workers: WeakKeyDictionary[ACREEngine, Worker] = WeakKeyDictionary()
_lock = threading.Lock()


def worker_of(engine: ACREEngine) -> Worker:
    """Find the worker that all adapters over an engine share."""
    with _lock:
        worker = _workers.get(engine)
        if worker is None:
            worker = _workers[engine] = Worker()
        return worker
