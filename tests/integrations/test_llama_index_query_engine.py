"""`ACREQueryEngine` behind the framework's own doors."""

import asyncio
from collections.abc import AsyncGenerator, Generator

import pytest
from llama_index.core import QueryBundle
from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.response.schema import (
    AsyncStreamingResponse,
    Response,
    StreamingResponse,
)

from acre_llama_index import ACREResponse, ACRERetriever
from acre_rag import ACREEngine, ACREError, ACREQueryEngine, Document
from tests.integrations.conftest import DRYER, FERRY, decoding_threads
from tests.integrations.event_loops import (
    LONG,
    answer_after_cancelling,
    check_a_cancelled_question_never_runs,
    check_the_loop_stays_free,
)

QUESTION = "When does the ferry leave?"
TEXTS = {FERRY.id: FERRY.text, DRYER.id: DRYER.text}


def test_it_is_a_query_engine(engine: ACREEngine) -> None:
    assert isinstance(ACREQueryEngine(engine), BaseQueryEngine)


def test_it_answers_as_the_engine_does(engine: ACREEngine) -> None:
    ours = ACREQueryEngine(engine, max_new_tokens=6).query(QUESTION)
    theirs = engine.ask(QUESTION, max_new_tokens=6)

    assert isinstance(ours, Response)
    assert str(ours) == theirs.text
    assert {(n.node.ref_doc_id, n.node.start_char_idx, n.score) for n in ours.source_nodes} == {
        (s.document, s.start, s.score) for s in theirs.sources
    }


def test_settings_reach_the_engine(engine: ACREEngine) -> None:
    settings = {"refill_tokens": 12, "max_new_tokens": 3, "instructions": "Say it in Norse."}

    ours = ACREQueryEngine(engine, documents=["dryer"], **settings).query(QUESTION)
    theirs = engine.ask(QUESTION, ["dryer"], **settings)

    assert str(ours) == theirs.text
    assert ours.metadata["usage"]["refilled_tokens"] == theirs.usage.refilled_tokens


@pytest.mark.parametrize("later", [False, True])
def test_what_a_retriever_may_refill_is_refilled(engine: ACREEngine, later: bool) -> None:
    def refilled(query_engine: ACREQueryEngine) -> int:
        asked = (
            asyncio.run(query_engine.aquery(QUESTION)) if later else query_engine.query(QUESTION)
        )
        return asked.metadata["usage"]["refilled_tokens"]

    retriever = ACRERetriever(engine, documents=["ferry"], refill_tokens=12)

    assert refilled(ACREQueryEngine(engine, retriever, max_new_tokens=1)) == 12
    assert refilled(ACREQueryEngine.from_args(retriever, max_new_tokens=1)) == 12
    wide = ACREQueryEngine(engine, retriever, refill_tokens=40, max_new_tokens=1)
    assert refilled(wide) == 40
    assert {found.node.ref_doc_id for found in wide.query(QUESTION).source_nodes} == {"ferry"}


@pytest.mark.parametrize("later", [False, True])
def test_refill_may_be_left_to_the_scores(engine: ACREEngine, later: bool) -> None:
    query_engine = ACREQueryEngine(engine, refill_tokens="auto", max_new_tokens=1)

    ours = asyncio.run(query_engine.aquery(QUESTION)) if later else query_engine.query(QUESTION)

    theirs = engine.ask(QUESTION, refill_tokens="auto", max_new_tokens=1)
    assert ours.metadata["usage"]["refilled_tokens"] == theirs.usage.refilled_tokens
    found = ACRERetriever(engine, refill_tokens="auto").retrieve(QUESTION)
    assert len(found) == len(engine.retrieve(QUESTION, refill_tokens="auto").sources)


def test_source_nodes_name_exact_characters_whatever_the_script(engine: ACREEngine) -> None:
    response = ACREQueryEngine(engine, refill_tokens=60, max_new_tokens=2).query(QUESTION)

    assert {found.node.ref_doc_id for found in response.source_nodes} == {"ferry", "dryer"}
    for found in response.source_nodes:
        node = found.node
        assert TEXTS[node.ref_doc_id][node.start_char_idx : node.end_char_idx] == node.text


def test_source_nodes_carry_score_and_metadata_the_best_first(engine: ACREEngine) -> None:
    response = ACREQueryEngine(engine, documents=["ferry"], max_new_tokens=2).query(QUESTION)

    scores = [found.score for found in response.source_nodes]
    assert scores == sorted(scores, reverse=True)
    assert all(found.node.metadata == FERRY.metadata for found in response.source_nodes)


def test_metadata_says_what_the_answer_cost_in_plain_values(engine: ACREEngine) -> None:
    response = ACREQueryEngine(engine, max_new_tokens=2).query(QUESTION)

    usage, seconds = response.metadata["usage"], response.metadata["seconds"]
    assert usage["encoded_tokens"] == 0
    assert usage["bytes_read"] > 0
    assert 0 < seconds["first_token"] <= seconds["total"]


def test_async_answers_are_those_of_sync(engine: ACREEngine) -> None:
    query_engine = ACREQueryEngine(engine, max_new_tokens=6)

    sync = query_engine.query(QUESTION)
    later = asyncio.run(query_engine.aquery(QueryBundle(QUESTION)))

    assert isinstance(later, Response)
    assert str(later) == str(sync)
    assert [n.node_id for n in later.source_nodes] == [n.node_id for n in sync.source_nodes]
    assert later.metadata["usage"]["encoded_tokens"] == 0


def test_a_stream_gives_the_answer_in_pieces(engine: ACREEngine) -> None:
    whole = str(ACREQueryEngine(engine, max_new_tokens=9).query(QUESTION))

    response = ACREQueryEngine(engine, streaming=True, max_new_tokens=9).query(QUESTION)

    assert isinstance(response, StreamingResponse)
    assert isinstance(response.response_gen, Generator)
    assert response.source_nodes
    assert response.metadata["usage"]["encoded_tokens"] == 0
    assert "seconds" not in response.metadata
    pieces = list(response.response_gen)
    assert len(pieces) > 5
    assert "".join(pieces).strip() == whole
    assert response.metadata["seconds"]["total"] > 0


def test_an_async_stream_gives_the_answer_in_pieces(engine: ACREEngine) -> None:
    whole = str(ACREQueryEngine(engine, max_new_tokens=9).query(QUESTION))

    async def collect() -> tuple[AsyncStreamingResponse, list[str]]:
        response = await ACREQueryEngine(engine, streaming=True, max_new_tokens=9).aquery(QUESTION)
        assert isinstance(response, AsyncStreamingResponse)
        assert isinstance(response.response_gen, AsyncGenerator)
        assert response.source_nodes
        return response, [piece async for piece in response.async_response_gen()]

    response, pieces = asyncio.run(collect())
    assert len(pieces) > 5
    assert "".join(pieces).strip() == whole
    assert response.metadata["usage"]["encoded_tokens"] == 0


@pytest.mark.usefixtures("tokens")
def test_pieces_come_while_the_model_is_still_at_it(engine: ACREEngine) -> None:
    query_engine = ACREQueryEngine(engine, streaming=True, max_new_tokens=LONG)

    async def first_piece() -> None:
        response = await query_engine.aquery("Go on")
        await anext(response.response_gen)
        assert decoding_threads()
        await response.response_gen.aclose()

    asyncio.run(first_piece())


def test_sixteen_questions_at_once_get_their_own_answers(engine: ACREEngine) -> None:
    query_engine = ACREQueryEngine(engine, max_new_tokens=4)
    questions = [f"Question {number}: what is changed, and when?" for number in range(16)]
    one_by_one = [str(query_engine.query(question)) for question in questions]

    async def all_at_once() -> list[Response]:
        return await asyncio.gather(*map(query_engine.aquery, questions))

    assert [str(answer) for answer in asyncio.run(all_at_once())] == one_by_one


@pytest.mark.usefixtures("tokens")
def test_the_event_loop_stays_free_while_the_model_works(engine: ACREEngine) -> None:
    check_the_loop_stays_free(ACREQueryEngine(engine, max_new_tokens=60).aquery)


def test_closing_a_stream_frees_the_model(engine: ACREEngine, tokens: list[float]) -> None:
    response = ACREQueryEngine(engine, streaming=True, max_new_tokens=LONG).query("Go on")
    next(response.response_gen)

    response.response_gen.close()

    assert not decoding_threads()
    assert 0 < len(tokens) < LONG
    assert response.metadata["usage"]["refilled_tokens"] > 0


@pytest.mark.parametrize("streaming", [False, True])
def test_cancelling_a_question_frees_the_model(
    engine: ACREEngine, streaming: bool, tokens: list[float]
) -> None:
    endless = ACREQueryEngine(engine, streaming=streaming, max_new_tokens=LONG)
    brief = ACREQueryEngine(engine, max_new_tokens=2)

    async def drain() -> None:
        response = await endless.aquery("Go on")
        if streaming:
            async for _ in response.async_response_gen():
                pass

    answer = answer_after_cancelling(drain, lambda: brief.aquery(QUESTION), tokens)
    assert str(answer) == str(brief.query(QUESTION))


def test_a_cancelled_question_that_waits_its_turn_never_runs(
    engine: ACREEngine, tokens: list[float]
) -> None:
    query_engine = ACREQueryEngine(engine, max_new_tokens=4)

    check_a_cancelled_question_never_runs(engine, query_engine.aquery, tokens)


def test_an_answer_that_nobody_reads_blocks_nobody(engine: ACREEngine) -> None:
    async def ask_twice() -> str:
        await ACREQueryEngine(engine, streaming=True, max_new_tokens=9).aquery("Go on")
        return str(await ACREQueryEngine(engine, max_new_tokens=2).aquery(QUESTION))

    assert asyncio.run(ask_twice())


def test_a_stream_may_be_read_in_another_event_loop(engine: ACREEngine) -> None:
    whole = str(ACREQueryEngine(engine, max_new_tokens=9).query(QUESTION))
    query_engine = ACREQueryEngine(engine, streaming=True, max_new_tokens=9)

    async def read_inside() -> str:
        # The framework reads it in a loop of its own, while this one stands still.
        return str(await query_engine.aquery(QUESTION))

    assert asyncio.run(read_inside()).strip() == whole
    assert str(asyncio.run(query_engine.aquery(QUESTION))).strip() == whole


@pytest.mark.parametrize("later", [False, True])
def test_a_notebook_shows_a_response_with_its_refill_map(engine: ACREEngine, later: bool) -> None:
    query_engine = ACREQueryEngine(engine, documents=["dryer"], max_new_tokens=3)

    response = asyncio.run(query_engine.aquery(QUESTION)) if later else query_engine.query(QUESTION)

    assert isinstance(response, ACREResponse)
    assert response.answer.refill_map == engine.ask(QUESTION, ["dryer"]).refill_map
    assert str(response) in response._repr_html_()


def test_an_empty_store_is_reported_in_our_words(empty_engine: ACREEngine) -> None:
    query_engine = ACREQueryEngine(empty_engine)

    with pytest.raises(ACREError, match="holds no documents"):
        query_engine.query(QUESTION)
    with pytest.raises(ACREError, match="holds no documents"):
        asyncio.run(query_engine.aquery(QUESTION))


@pytest.mark.parametrize("streaming", [False, True])
def test_a_document_that_is_gone_is_reported_in_our_words(
    engine: ACREEngine, streaming: bool
) -> None:
    query_engine = ACREQueryEngine(engine, streaming=streaming, documents=["ferry"])
    engine.delete("ferry")

    with pytest.raises(ACREError, match="'ferry' is not stored"):
        query_engine.query(QUESTION)
    with pytest.raises(ACREError, match="'ferry' is not stored"):
        asyncio.run(query_engine.aquery(QUESTION))


def test_a_budget_that_does_not_fit_is_reported_in_our_words(engine: ACREEngine) -> None:
    query_engine = ACREQueryEngine(engine, max_new_tokens=5000)

    with pytest.raises(ACREError, match="expected"):
        query_engine.query(QUESTION)
    with pytest.raises(ACREError, match="expected"):
        asyncio.run(query_engine.aquery(QUESTION))


def test_documents_read_later_are_asked_too(engine: ACREEngine) -> None:
    query_engine = ACREQueryEngine(engine, max_new_tokens=2)
    before = query_engine.query(QUESTION).metadata["usage"]["document_tokens"]

    engine.ingest([Document(id="late", text="The mail boat leaves at ten.")])

    assert query_engine.query(QUESTION).metadata["usage"]["document_tokens"] > before
