"""What is written while the next is computed: some windows behind, in a thread of its own."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

Written = TypeVar("Written")


class WriteBehind(Generic[Written]):
    """Writes one thing at a time, in the order given; an error is raised by one of the next calls.

    What was put last is written before the context ends, whatever ends it; but nothing is written
    after what could not be.

    Args:
        write: Writes a thing, in another thread.
        note: Told the number of each that is written, in this thread.
        waiting: Things that may be under way when another one is put: 1, or more where `write`
            begins with a wait for a device, which should have its next work by then.
    """

    def __init__(
        self, write: Callable[[Written], None], note: Callable[[int], None], waiting: int = 1
    ) -> None:
        self._write = write
        self._note = note
        self._waiting = waiting
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="acre-write")
        self._pending: deque[tuple[int, Future[None]]] = deque()
        self._failed = False

    def put(self, number: int, thing: Written) -> None:
        """Wait until few enough are under way, and have this written."""
        while len(self._pending) >= self._waiting:
            self._settle()
        self._pending.append((number, self._pool.submit(self._one, thing)))

    def __enter__(self) -> "WriteBehind[Written]":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            while error is None and self._pending:
                self._settle()
        finally:
            self._pool.shutdown()

    def _settle(self) -> None:
        number, written = self._pending.popleft()
        written.result()
        self._note(number)

    def _one(self, thing: Written) -> None:
        if self._failed:
            raise RuntimeError("an earlier write has failed; expected its error to end the rest")
        try:
            self._write(thing)
        except BaseException:
            self._failed = True
            raise
