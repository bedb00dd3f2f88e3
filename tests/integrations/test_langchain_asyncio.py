"""`ACREAnswerChain` among many who ask at once, wait, leave, and cancel."""

import asyncio
import time
from typing import Any

import pytest

from acre_langchain import ACREAnswerChain
from acre_rag import ACREEngine, AnswerStream
from tests.integrations.conftest import decoding_threads

QUESTION = "When does the ferry leave?"


@pytest.fixture
def chain(engine: ACREEngine) -> ACREAnswerChain:
    return ACREAnswerChain(engine=engine, max_new_tokens=9)


def test_closing_a_stream_frees_the_model(engine: ACREEngine) -> None:
    stream = ACREAnswerChain(engine=engine, max_new_tokens=3000).stream("Go on")
    next(stream), next(stream)
    assert decoding_threads()

    stream.close()

    assert not decoding_threads()


@pytest.mark.parametrize("streaming", [False, True])
def test_cancelling_a_question_frees_the_model(engine: ACREEngine, streaming: bool) -> None:
    endless = ACREAnswerChain(engine=engine, max_new_tokens=3000)
    brief = ACREAnswerChain(engine=engine, max_new_tokens=2)

    async def drain() -> None:
        if not streaming:
            await endless.ainvoke("Go on")
        async for _ in endless.astream("Go on"):
            pass

    async def cancel_and_ask() -> tuple[str, float]:
        task = asyncio.create_task(drain())
        while not decoding_threads():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        begun = time.perf_counter()
        return (await brief.ainvoke(QUESTION))["answer"], time.perf_counter() - begun

    answer, seconds = asyncio.run(cancel_and_ask())
    assert answer == brief.invoke(QUESTION)["answer"]
    assert seconds < 2  # 3,000 tokens take far longer


def test_leaving_an_async_stream_frees_the_model(engine: ACREEngine) -> None:
    async def leave() -> None:
        parts = ACREAnswerChain(engine=engine, max_new_tokens=3000).astream("Go on")
        await anext(parts)
        await anext(parts)
        await parts.aclose()
        deadline = time.perf_counter() + 2
        while decoding_threads():
            assert time.perf_counter() < deadline
            await asyncio.sleep(0.001)

    asyncio.run(leave())


def test_sixteen_questions_at_once_get_their_own_answers(engine: ACREEngine) -> None:
    chain = ACREAnswerChain(engine=engine, max_new_tokens=3)
    questions = [f"Question {number}: what is changed, and when?" for number in range(16)]
    one_by_one = [chain.invoke(question)["answer"] for question in questions]

    async def all_at_once() -> list[dict[str, Any]]:
        return await asyncio.gather(*map(chain.ainvoke, questions))

    assert [out["answer"] for out in asyncio.run(all_at_once())] == one_by_one


def test_a_cancelled_question_that_waits_its_turn_never_runs(engine: ACREEngine) -> None:
    chain = ACREAnswerChain(engine=engine, max_new_tokens=40)

    async def ask_and_cancel() -> None:
        first = asyncio.create_task(chain.ainvoke("Go on"))
        second = asyncio.create_task(chain.ainvoke("And on"))
        await asyncio.sleep(0)
        second.cancel()
        await first
        with pytest.raises(asyncio.CancelledError):
            await second
        assert not decoding_threads()

    asyncio.run(ask_and_cancel())


def test_the_event_loop_stays_free_while_the_model_works(engine: ACREEngine) -> None:
    async def count() -> int:
        chain = ACREAnswerChain(engine=engine, max_new_tokens=60)
        answer = asyncio.ensure_future(chain.ainvoke("Go on"))
        turns = 0
        while not answer.done():
            await asyncio.sleep(0)
            turns += 1
        await answer
        return turns

    assert asyncio.run(count()) > 60


def test_only_one_refilled_cache_waits_however_many_ask(
    engine: ACREEngine, chain: ACREAnswerChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, most = set[int](), [0]
    stream = engine.stream

    def counted(*settings: Any) -> AnswerStream:  # noqa: ANN401  # the engine's own
        made = stream(*settings)
        waiting.add(id(made))
        most[0] = max(most[0], len(waiting))
        close = made.close
        monkeypatch.setattr(made, "close", lambda: (waiting.discard(id(made)), close())[1])
        return made

    monkeypatch.setattr(engine, "stream", counted)

    asyncio.run(chain.abatch([f"Question {number}?" for number in range(6)]))

    assert most == [1]
