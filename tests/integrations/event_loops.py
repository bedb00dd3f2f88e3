"""What every integration promises to an event loop, whatever a question is asked through."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import pytest

from tests.integrations.conftest import decoding_threads

Answer = TypeVar("Answer")
Ask = Callable[[str], Coroutine[Any, Any, object]]


def check_the_loop_stays_free(ask: Ask) -> None:
    """Ask a long question, and count the turns of the loop meanwhile."""

    async def count() -> int:
        answer = asyncio.ensure_future(ask("Go on"))
        turns = 0
        while not answer.done():
            await asyncio.sleep(0)
            turns += 1
        await answer
        return turns

    assert asyncio.run(count()) > 60


def check_a_cancelled_question_never_runs(ask: Ask) -> None:
    """Cancel a question that waits for another one's answer."""

    async def ask_and_cancel() -> None:
        first = asyncio.create_task(ask("Go on"))
        second = asyncio.create_task(ask("And on"))
        await asyncio.sleep(0)
        second.cancel()
        await first
        with pytest.raises(asyncio.CancelledError):
            await second
        assert not decoding_threads()

    asyncio.run(ask_and_cancel())


def answer_after_cancelling(
    endless: Callable[[], Coroutine[Any, Any, None]], ask: Callable[[], Awaitable[Answer]]
) -> Answer:
    """Cancel an answer that would take long, once it is being given, and ask something else."""

    async def cancel_and_ask() -> tuple[Answer, float, float]:
        task = asyncio.create_task(endless())
        while not decoding_threads():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        begun = time.perf_counter()
        answer, after = await ask(), time.perf_counter()
        await ask()
        return answer, after - begun, time.perf_counter() - after

    answer, seconds, alone = asyncio.run(cancel_and_ask())
    assert seconds < 2 + 20 * alone  # 3,000 tokens take far longer, on a slow machine too
    return answer
