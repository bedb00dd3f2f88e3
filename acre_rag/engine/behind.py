"""What is written while the next is computed: one window behind, in a thread of its own."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

Written = TypeVar("Written")


class WriteBehind(Generic[Written]):
    """Writes one thing at a time, in the order given; an error is raised by the next call.

    What was put last is written before the context ends, whatever ends it.

    Args:
        write: Writes a thing, in another thread.
        note: Told the number of each that is written, in this thread, before the next is begun.
    """

    def __init__(self, write: Callable[[Written], None], note: Callable[[int], None]) -> None:
        self._write = write
        self._note = note
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="acre-write")
        self._pending: tuple[int, Future[None]] | None = None

    def put(self, number: int, thing: Written) -> None:
        """Wait until what was put before is written, and have this written."""
        self._settle()
        self._pending = number, self._pool.submit(self._write, thing)

    def __enter__(self) -> "WriteBehind[Written]":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._settle()
        finally:
            self._pool.shutdown()

    def _settle(self) -> None:
        if self._pending is not None:
            (number, written), self._pending = self._pending, None
            written.result()
            self._note(number)
