"""Reading ahead: what comes next is fetched while the last is worked on."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Asked = TypeVar("Asked")
Read = TypeVar("Read")

_AHEAD = 4


def results_ahead(
    read: Callable[[Asked], Read], asked: Iterable[Asked], *, harmless: type[Exception]
) -> Generator[Future[Read], None, None]:
    """Read one thing after another on a thread of its own, a few ahead of who takes the results.

    After an error nothing more is read, nor when the iterator is closed: what has begun is waited
    for, and no more.

    Args:
        read: Reads one; what it raises is raised by its result.
        asked: What to read.
        harmless: Errors after which it goes on.

    Yields:
        A result for each, in order.
    """
    over = threading.Event()

    def read_one(one: Asked) -> Read:
        if over.is_set():
            raise CancelledError
        try:
            return read(one)
        except harmless:
            raise
        except BaseException:
            over.set()
            raise

    rest = iter(asked)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="acre-read") as thread:
        waiting = deque(thread.submit(read_one, one) for one in islice(rest, _AHEAD))
        try:
            while waiting:
                yield waiting.popleft()
                waiting.extend(thread.submit(read_one, one) for one in islice(rest, 1))
        finally:
            over.set()
