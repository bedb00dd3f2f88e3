"""Writing one behind: in order, nothing lost, errors where they can be seen."""

import threading

import pytest

from acre_rag.engine.behind import WriteBehind


class _Stop(Exception):  # noqa: N818  # no error
    """Stops a run from outside."""


@pytest.mark.parametrize("waiting", [1, 2, 5])
def test_things_are_written_in_order_and_noted_once_they_are(waiting: int) -> None:
    written: list[str] = []
    noted: list[tuple[int, bool]] = []

    def note(number: int) -> None:
        noted.append((number, "abc"[number] in written))

    with WriteBehind(written.append, note, waiting) as ours:
        for number, thing in enumerate("abc"):
            ours.put(number, thing)

    assert written == ["a", "b", "c"]
    assert noted == [(0, True), (1, True), (2, True)]


def test_no_more_are_under_way_than_may_be() -> None:
    begun = threading.Semaphore(0)
    noted: list[int] = []
    most: list[int] = []

    def write(number: int) -> None:
        assert begun.acquire(timeout=30)
        most.append(number)

    with WriteBehind(write, noted.append, waiting=2) as ours:
        ours.put(0, 0)
        ours.put(1, 1)  # waits for none
        assert (most, noted) == ([], [])
        for _ in range(3):
            begun.release()
        ours.put(2, 2)
        assert noted[0] == 0

    assert noted == [0, 1, 2]


def test_the_next_thing_is_made_while_one_is_written() -> None:
    made = threading.Event()
    threads: list[int] = []

    def write(_: str) -> None:
        assert made.wait(30)
        threads.append(threading.get_ident())

    with WriteBehind(write, lambda _: None) as ours:
        ours.put(0, "first")
        made.set()

    assert threads != [threading.get_ident()]


@pytest.mark.parametrize("waiting", [1, 2])
def test_what_cannot_be_written_is_raised_and_nothing_is_written_after_it(waiting: int) -> None:
    written: list[str] = []

    def write(thing: str) -> None:
        if thing == "b":
            raise _Stop
        written.append(thing)

    def run() -> None:
        with WriteBehind(write, lambda _: None, waiting) as ours:
            for number, thing in enumerate("abcd"):
                ours.put(number, thing)

    with pytest.raises(_Stop):
        run()

    assert written == ["a"]


def test_what_was_put_is_written_whatever_ends_the_run() -> None:
    written: list[str] = []
    noted: list[int] = []

    def run() -> None:
        with WriteBehind(written.append, noted.append) as ours:
            ours.put(0, "a")
            raise _Stop

    with pytest.raises(_Stop):
        run()

    assert written == ["a"]
    assert noted == []
