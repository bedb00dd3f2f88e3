"""The bridge from asyncio to an engine: order, cancellation, loops inside loops."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing

import pytest

from acre_rag.engine.worker import AsyncText, Worker


class Text:
    """Counts from 0 on, remembering whether it was closed; waits for leave where told to."""

    def __init__(self, length: int, leave: threading.Event | None = None) -> None:
        self.given = 0
        self.closed = threading.Event()
        self._length = length
        self._leave = leave

    def __iter__(self) -> Iterator[str]:
        while self.given < self._length:
            if self._leave is not None:
                self._leave.wait(60)
            self.given += 1
            yield str(self.given - 1)

    def close(self) -> None:
        self.closed.set()


def starting(text: Text) -> Callable[[], tuple[str, Text]]:
    return lambda: ("head", text)


async def whole(text: AsyncText[str]) -> tuple[str, list[str]]:
    return await text.head(), [piece async for piece in text.pieces()]


def test_head_and_pieces_come_in_order() -> None:
    async def read() -> tuple[str, list[str]]:
        return await whole(Worker().begin(starting(Text(3))))

    assert asyncio.run(read()) == ("head", ["0", "1", "2"])


def test_a_text_ends_before_the_next_begins() -> None:
    worker = Worker()
    order: list[str] = []

    def start(name: str) -> tuple[str, Text]:
        order.append(name)
        return name, texts[name]

    texts = {"first": Text(2), "second": Text(2)}

    async def read() -> None:
        second_started_with = []
        first = worker.begin(lambda: start("first"))
        second = worker.begin(
            lambda: second_started_with.append(texts["first"].closed.is_set()) or start("second")
        )
        await asyncio.gather(whole(second), whole(first))
        assert second_started_with == [True]

    asyncio.run(read())
    assert order == ["first", "second"]


@pytest.mark.parametrize("fail_at", ["head", "piece"])
def test_what_goes_wrong_in_the_worker_is_raised_here(fail_at: str) -> None:
    class Broken(Text):
        def __iter__(self) -> Iterator[str]:
            yield "0"
            raise OSError("lost")

    def start() -> tuple[str, Text]:
        if fail_at == "head":
            raise OSError("lost")
        return "head", Broken(1)

    async def read() -> None:
        await whole(Worker().begin(start))

    with pytest.raises(OSError, match="lost"):
        asyncio.run(read())


def test_a_reader_that_leaves_stops_the_text() -> None:
    text, leave = Text(10**9), threading.Event()
    leave.set()

    async def read() -> None:
        begun = Worker().begin(starting(text))
        await begun.head()
        async with aclosing(begun.pieces()) as pieces:
            await anext(pieces)

    asyncio.run(read())
    assert text.closed.wait(60)


@pytest.mark.parametrize("waits_for", ["head", "pieces"])
def test_a_reader_that_is_cancelled_stops_the_text(waits_for: str) -> None:
    leave, started = threading.Event(), threading.Event()
    text = Text(10**9, leave)

    def start() -> tuple[str, Text]:
        started.set()
        if waits_for == "head":
            leave.wait(60)
        return "head", text

    async def cancel() -> None:
        reading = asyncio.create_task(whole(Worker().begin(start)))
        while not started.is_set():
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        leave.set()

    asyncio.run(cancel())
    assert text.closed.wait(60)
    assert text.given <= 1


def test_what_is_cancelled_before_its_turn_never_runs() -> None:
    worker, leave, ran = Worker(), threading.Event(), []

    async def cancel() -> None:
        first = asyncio.create_task(worker.run(lambda: leave.wait(60)))
        second = asyncio.create_task(worker.run(lambda: ran.append("second")))
        await asyncio.sleep(0)
        third = worker.begin(lambda: ran.append("third") or ("head", Text(1)))
        second.cancel()
        third.stop()
        with pytest.raises(asyncio.CancelledError):
            await second  # it has heard of it before the worker is free
        leave.set()
        await first
        await worker.run(lambda: None)

    asyncio.run(cancel())
    assert ran == []


def test_a_text_may_be_read_in_a_loop_inside_a_loop() -> None:
    worker = Worker()

    def read_inside(begun: AsyncText[str]) -> list[str]:
        async def read() -> list[str]:
            return [piece async for piece in begun.pieces()]

        found: list[list[str]] = []
        thread = threading.Thread(target=lambda: found.append(asyncio.run(read())))
        thread.start()
        thread.join()  # the outer loop is blocked meanwhile
        return found[0]

    async def outer() -> list[str]:
        begun = worker.begin(starting(Text(50)))
        await begun.head()
        return read_inside(begun)

    assert len(asyncio.run(outer())) == 50


def test_a_loop_that_closes_under_its_reader_stops_the_text() -> None:
    leave = threading.Event()
    text = Text(10**9, leave)
    loop = asyncio.new_event_loop()
    begun = Worker().begin(starting(text))
    loop.run_until_complete(begun.head())
    reading = loop.create_task(anext(begun.pieces()))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    leave.set()

    assert text.closed.wait(60)
    assert not reading.done()
