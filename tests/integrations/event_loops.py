"""What every integration promises to an event loop, whatever a question is asked through."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import pytest

from acre_rag import ACREEngine

Answer = TypeVar("Answer")
Ask = Callable[[str], Coroutine[Any, Any, object]]

LONG = 3000
"""Tokens of an answer that no test waits for."""


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


def check_a_cancelled_question_never_runs(
    engine: ACREEngine, ask: Ask, tokens: list[float]
) -> None:
    """Cancel a question that waits for another one's answer."""

    async def ask_and_cancel() -> None:
        await cancel_while_it_waits(engine, ask("Go on"), ask("And on"))
        made = len(tokens)
        await engine.worker.run(lambda: None)
        assert len(tokens) == made > 0

    asyncio.run(ask_and_cancel())


async def cancel_while_it_waits(
    engine: ACREEngine,
    answering: Coroutine[Any, Any, object],
    waiting: Coroutine[Any, Any, object],
) -> None:
    """Cancel what waits for an answer, and let that come to its end."""
    with engine.reader.local.lock:  # until the second has heard of it, the first cannot end
        first = asyncio.create_task(answering)
        await asyncio.sleep(0)  # so that it comes first
        second = asyncio.create_task(waiting)
        for _ in range(100):  # it comes as far as it can
            await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
    await first


def answer_after_cancelling(
    endless: Callable[[], Coroutine[Any, Any, object]],
    ask: Callable[[], Awaitable[Answer]],
    tokens: list[float],
) -> Answer:
    """Cancel an answer of `LONG` tokens, once it is being given, and ask something else."""

    async def cancel_and_ask() -> Answer:
        task = asyncio.create_task(endless())
        while not tokens:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await ask()

    answer = asyncio.run(cancel_and_ask())
    assert len(tokens) < LONG
    return answer
