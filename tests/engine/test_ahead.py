"""Reading ahead: in order, on one other thread, and no further than it may."""

import threading
import time
from concurrent.futures import Future
from contextlib import closing

import pytest

from acre_rag.cache import StoredBlock
from acre_rag.engine import ledger
from acre_rag.engine.ahead import results_ahead
from acre_rag.engine.ledger import Ledger
from acre_rag.errors import DamagedCacheError, StoreError
from acre_rag.store import CacheArchive, DirectoryStore

READ_AT_ONCE = 4


class Shelf:
    """Gives numbers, and remembers who asked for which."""

    def __init__(self, *, broken: dict[int, Exception] | None = None) -> None:
        self.asked: list[int] = []
        self.threads: set[int] = set()
        self._broken = broken or {}

    def read(self, number: int) -> int:
        self.asked.append(number)
        self.threads.add(threading.get_ident())
        if number in self._broken:
            raise self._broken[number]
        return number * 10


def damage() -> DamagedCacheError:
    return DamagedCacheError("found none", "ingest it", reason="missing", value="l2:1")


def test_results_come_in_order_from_one_other_thread() -> None:
    shelf = Shelf()

    found = [r.result() for r in results_ahead(shelf.read, range(9), harmless=DamagedCacheError)]

    assert found == [number * 10 for number in range(9)]
    assert shelf.asked == list(range(9))
    assert len(shelf.threads) == 1
    assert threading.get_ident() not in shelf.threads


def test_what_comes_next_is_read_while_the_last_is_worked_on() -> None:
    began = [threading.Event() for _ in range(6)]
    results = results_ahead(lambda n: began[n].set(), range(6), harmless=DamagedCacheError)

    with closing(results):
        next(results).result()

        assert began[READ_AT_ONCE - 1].wait(10)
        assert not began[READ_AT_ONCE + 1].is_set()


def test_nothing_is_read_after_an_outage() -> None:
    shelf = Shelf(broken={1: StoreError("away")})
    results = results_ahead(shelf.read, range(9), harmless=DamagedCacheError)

    with closing(results):
        assert next(results).result() == 0
        with pytest.raises(StoreError, match="away"):
            next(results).result()

    assert shelf.asked == [0, 1]


def test_what_is_damaged_keeps_nothing_else_from_being_read() -> None:
    shelf = Shelf(broken={1: damage()})

    results = results_ahead(shelf.read, range(4), harmless=DamagedCacheError)

    assert [result.exception() is None for result in results] == [True, False, True, True]


def test_who_stops_taking_results_stops_the_reading() -> None:
    shelf = Shelf()
    results = results_ahead(shelf.read, range(1000), harmless=DamagedCacheError)

    next(results).result()
    results.close()

    assert len(shelf.asked) <= READ_AT_ONCE + 1
    assert not any(thread.name.startswith("acre-read") for thread in threading.enumerate())


def test_a_store_that_is_too_slow_for_a_whole_question_is_given_up(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "_PATIENCE_SECONDS", 0.05)
    read: Future[StoredBlock] = Future()
    costs = Ledger(CacheArchive(DirectoryStore(str(tmp_path)), "5bace0" * 4))
    threading.Timer(0.2, read.set_result, [None]).start()
    started = time.monotonic()

    with pytest.raises(StoreError, match=r"took 0\.\d s for 0 bytes; expected 1048576 a second"):
        costs.wait(read)

    assert costs.waited_seconds == pytest.approx(time.monotonic() - started, abs=0.15)
