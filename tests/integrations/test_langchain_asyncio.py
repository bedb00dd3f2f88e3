"""`ACREAnswerChain` among many who ask at once, wait, leave, and cancel."""

import asyncio
from typing import Any

import pytest

from acre_langchain import ACREAnswerChain
from acre_rag import ACREEngine, AnswerStream
from tests.integrations.conftest import decoding_threads
from tests.integrations.event_loops import (
    LONG,
    answer_after_cancelling,
    check_a_cancelled_question_never_runs,
    check_the_loop_stays_free,
)

QUESTION = "When does the ferry leave?"


@pytest.fixture
def chain(engine: ACREEngine) -> ACREAnswerChain:
    return ACREAnswerChain(engine=engine, max_new_tokens=9)


def test_closing_a_stream_frees_the_model(engine: ACREEngine, tokens: list[float]) -> None:
    stream = ACREAnswerChain(engine=engine, max_new_tokens=LONG).stream("Go on")
    next(stream), next(stream)
    assert decoding_threads()

    stream.close()

    assert not decoding_threads()
    assert len(tokens) < LONG


@pytest.mark.parametrize("streaming", [False, True])
def test_cancelling_a_question_frees_the_model(
    engine: ACREEngine, streaming: bool, tokens: list[float]
) -> None:
    endless = ACREAnswerChain(engine=engine, max_new_tokens=LONG)
    brief = ACREAnswerChain(engine=engine, max_new_tokens=2)

    async def drain() -> None:
        if not streaming:
            await endless.ainvoke("Go on")
        async for _ in endless.astream("Go on"):
            pass

    answer = answer_after_cancelling(drain, lambda: brief.ainvoke(QUESTION), tokens)
    assert answer["answer"] == brief.invoke(QUESTION)["answer"]


def test_leaving_an_async_stream_frees_the_model(engine: ACREEngine, tokens: list[float]) -> None:
    async def leave() -> None:
        parts = ACREAnswerChain(engine=engine, max_new_tokens=LONG).astream("Go on")
        await anext(parts)
        await anext(parts)
        await parts.aclose()
        await engine.worker.run(lambda: None)

    asyncio.run(leave())
    assert not decoding_threads()
    assert len(tokens) < LONG


def test_sixteen_questions_at_once_get_their_own_answers(engine: ACREEngine) -> None:
    chain = ACREAnswerChain(engine=engine, max_new_tokens=3)
    questions = [f"Question {number}: what is changed, and when?" for number in range(16)]
    one_by_one = [chain.invoke(question)["answer"] for question in questions]

    async def all_at_once() -> list[dict[str, Any]]:
        return await asyncio.gather(*map(chain.ainvoke, questions))

    assert [out["answer"] for out in asyncio.run(all_at_once())] == one_by_one


def test_a_cancelled_question_that_waits_its_turn_never_runs(
    engine: ACREEngine, tokens: list[float]
) -> None:
    chain = ACREAnswerChain(engine=engine, max_new_tokens=4)

    check_a_cancelled_question_never_runs(engine, chain.ainvoke, tokens)


@pytest.mark.usefixtures("tokens")
def test_the_event_loop_stays_free_while_the_model_works(engine: ACREEngine) -> None:
    check_the_loop_stays_free(ACREAnswerChain(engine=engine, max_new_tokens=60).ainvoke)


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
