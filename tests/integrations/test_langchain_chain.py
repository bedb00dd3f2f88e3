"""`ACREAnswerChain` as users compose it."""

import asyncio
import threading
from operator import itemgetter
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.globals import set_llm_cache
from langchain_core.runnables import (
    ConfigurableField,
    Runnable,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
)
from langchain_core.vectorstores import InMemoryVectorStore
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from acre_langchain import ACREAnswerChain, ACREOutput, ACRERetriever
from acre_rag import ACREEngine
from tests.integrations.conftest import DRYER, FERRY

QUESTION = "When does the ferry leave?"
TEXTS = {FERRY.id: FERRY.text, DRYER.id: DRYER.text}


@pytest.fixture
def chain(engine: ACREEngine) -> ACREAnswerChain:
    return ACREAnswerChain(engine=engine, max_new_tokens=9)


def test_it_answers_as_the_engine_does(engine: ACREEngine, chain: ACREAnswerChain) -> None:
    ours = chain.invoke(QUESTION)
    theirs = engine.ask(QUESTION, max_new_tokens=9)

    assert list(ours) == ["context", "answer", "usage"]
    assert ours["answer"] == theirs.text
    assert ours["usage"]["refilled_tokens"] == theirs.usage.refilled_tokens
    assert ours["usage"]["encoded_tokens"] == 0
    assert {(one.metadata["document_id"], one.metadata["score"]) for one in ours["context"]} == {
        (source.document, source.score) for source in theirs.sources
    }


def test_settings_reach_the_engine(engine: ACREEngine) -> None:
    settings = {"refill_tokens": 12, "max_new_tokens": 3, "instructions": "Say it in Norse."}

    ours = ACREAnswerChain(engine=engine, documents=["dryer"], **settings).invoke(QUESTION)
    theirs = engine.ask(QUESTION, ["dryer"], **settings)

    assert ours["answer"] == theirs.text
    assert ours["usage"]["refilled_tokens"] == theirs.usage.refilled_tokens


def test_context_names_exact_characters_whatever_the_script(chain: ACREAnswerChain) -> None:
    context = chain.invoke(QUESTION)["context"]

    assert {one.metadata["document_id"] for one in context} == {"ferry", "dryer"}
    for one in context:
        place = one.metadata
        text = TEXTS[place["document_id"]][place["start_index"] : place["end_index"]]
        assert text == one.page_content


def test_a_stream_gives_documents_first_then_the_answer_in_pieces(chain: ACREAnswerChain) -> None:
    whole = chain.invoke(QUESTION)

    first, *middle, last = list(chain.stream(QUESTION))

    assert first == {"context": whole["context"]}
    assert all(list(part) == ["answer"] for part in middle)
    assert len(middle) > 5
    assert "".join(part["answer"] for part in middle) == whole["answer"]
    assert list(last) == ["usage"]


def test_async_answers_are_those_of_sync(chain: ACREAnswerChain) -> None:
    async def collect() -> tuple[dict[str, Any], list[dict[str, Any]]]:
        return await chain.ainvoke(QUESTION), [part async for part in chain.astream(QUESTION)]

    sync = chain.invoke(QUESTION)
    whole, parts = asyncio.run(collect())

    assert whole["answer"] == sync["answer"]
    assert whole["context"] == sync["context"]
    assert parts[0] == {"context": sync["context"]}
    assert "".join(part.get("answer", "") for part in parts) == sync["answer"]


def test_it_streams_inside_longer_chains(chain: ACREAnswerChain) -> None:
    longer = itemgetter("question") | chain.pick("answer")

    pieces = list(longer.stream({"question": QUESTION}))

    assert len(pieces) > 5
    assert "".join(pieces) == chain.invoke(QUESTION)["answer"]


def test_documents_come_first_inside_longer_chains_too(chain: ACREAnswerChain) -> None:
    longer = itemgetter("question") | RunnablePassthrough() | chain

    async def collect() -> list[dict[str, Any]]:
        return [part async for part in longer.astream({"question": QUESTION})]

    for parts in (list(longer.stream({"question": QUESTION})), asyncio.run(collect())):
        names = [name for part in parts for name in part]
        assert names[0] == "context"
        assert names[-1] == "usage"
        assert set(names[1:-1]) == {"answer"}
        assert len(names) > 7


def test_a_cache_of_all_models_answers_is_not_asked(engine: ACREEngine) -> None:
    set_llm_cache(InMemoryCache())
    try:
        for name in ("ferry", "dryer"):
            ours = ACREAnswerChain(engine=engine, documents=[name], max_new_tokens=9)
            for answer in (ours.invoke(QUESTION), asyncio.run(ours.ainvoke(QUESTION))):
                assert answer["answer"] == engine.ask(QUESTION, [name], max_new_tokens=9).text
    finally:
        set_llm_cache(None)


def test_it_runs_beside_other_chains(chain: ACREAnswerChain) -> None:
    both = RunnableParallel(asked=RunnablePassthrough(), found=chain.pick(["answer", "context"]))

    out = both.invoke(QUESTION)

    assert out["asked"] == QUESTION
    assert out["found"]["answer"] == chain.invoke(QUESTION)["answer"]


def test_a_batch_answers_each_question(chain: ACREAnswerChain) -> None:
    questions = [f"Question {number}: what is changed?" for number in range(4)]
    one_by_one = [chain.invoke(question)["answer"] for question in questions]

    assert [out["answer"] for out in chain.batch(questions)] == one_by_one
    assert [out["answer"] for out in asyncio.run(chain.abatch(questions))] == one_by_one


def test_events_tell_of_documents_and_tokens(chain: ACREAnswerChain) -> None:
    async def collect() -> list[dict[str, Any]]:
        longer = RunnablePassthrough() | chain
        return [dict(event) async for event in longer.astream_events(QUESTION, version="v2")]

    events = asyncio.run(collect())

    names = [event["event"] for event in events]
    (found,) = [event for event in events if event["event"] == "on_retriever_end"]
    tokens = [event["data"]["chunk"].text for event in events if "model_stream" in event["event"]]
    assert names.index("on_retriever_end") < names.index("on_chat_model_stream")
    assert {one.metadata["document_id"] for one in found["data"]["output"]} == {"ferry", "dryer"}
    assert "".join(tokens) == chain.invoke(QUESTION)["answer"]
    assert sum(name == "on_chain_stream" for name in names) > 10


def test_fallbacks_and_retries_wrap_it(engine: ACREEngine, chain: ACREAnswerChain) -> None:
    nothing = ACREAnswerChain(engine=engine, documents=["gone"])

    answer = chain.invoke(QUESTION)["answer"]

    assert nothing.with_fallbacks([chain]).invoke(QUESTION)["answer"] == answer
    assert chain.with_retry(stop_after_attempt=2).invoke(QUESTION)["answer"] == answer
    pieces = list(nothing.with_fallbacks([chain]).stream(QUESTION))
    assert "".join(piece.get("answer", "") for piece in pieces) == answer


def test_its_settings_can_be_configured(engine: ACREEngine, chain: ACREAnswerChain) -> None:
    configurable = chain.configurable_fields(max_new_tokens=ConfigurableField(id="length"))

    short = configurable.invoke(QUESTION, {"configurable": {"length": 2}})

    assert short["answer"] == engine.ask(QUESTION, max_new_tokens=2).text


def test_another_retriever_gives_the_candidates(engine: ACREEngine) -> None:
    vectors = InMemoryVectorStore(DeterministicFakeEmbedding(size=4))
    vectors.add_documents(
        [
            Document(page_content=DRYER.text, metadata={"document_id": "dryer"}),
            Document(page_content="The mail boat leaves at ten.", metadata={"kind": "news"}),
        ]
    )
    chain = ACREAnswerChain(engine=engine, retriever=vectors.as_retriever(), max_new_tokens=3)

    first, second = chain.invoke(QUESTION), chain.invoke(QUESTION)

    assert first["usage"]["encoded_tokens"] > 0
    assert second["usage"]["encoded_tokens"] == 0
    assert first["answer"] == second["answer"]
    assert {one.metadata.get("kind") for one in first["context"]} == {"manual", "news"}
    assert "ferry" not in {one.metadata["document_id"] for one in first["context"]}
    # What was read for a passage alone is no document of the user's.
    own = ACREAnswerChain(engine=engine, max_new_tokens=2).invoke(QUESTION)["context"]
    assert {one.metadata["document_id"] for one in own} == {"ferry", "dryer"}


def test_every_passage_that_is_read_for_a_question_is_counted(engine: ACREEngine) -> None:
    texts = ["The mail boat leaves at ten.", "On Sundays nothing leaves at all."]
    found: Runnable[str, list[Document]] = RunnableLambda(lambda _: list(map(Document, texts)))

    usage = ACREAnswerChain(engine=engine, retriever=found, max_new_tokens=2).invoke("?")["usage"]

    assert usage["encoded_tokens"] == usage["document_tokens"] > 0


def test_our_retriever_narrows_the_documents(engine: ACREEngine) -> None:
    retriever = ACRERetriever(engine=engine, k=1)
    (best,) = retriever.invoke(QUESTION)
    chain = ACREAnswerChain(engine=engine, retriever=retriever, max_new_tokens=3)

    context = asyncio.run(chain.ainvoke(QUESTION))["context"]

    assert {one.metadata["document_id"] for one in context} == {best.metadata["document_id"]}


def test_stop_words_end_the_answer(engine: ACREEngine, chain: ACREAnswerChain) -> None:
    whole = chain.invoke(QUESTION)["answer"]
    word = whole.split()[3]

    cut = ACREAnswerChain(engine=engine, max_new_tokens=9, stop=[word]).invoke(QUESTION)

    assert cut["answer"] == whole[: whole.index(word)].strip()


def test_passages_can_be_dropped(engine: ACREEngine) -> None:
    found: Runnable[str, list[Document]] = RunnableLambda(
        lambda _: [Document("It is nine."), Document(" ")]
    )
    chain = ACREAnswerChain(engine=engine, retriever=found, max_new_tokens=2)
    chain.invoke(QUESTION)

    assert chain.drop_passages() == 1
    assert {one.id for one in engine.documents()} == {"ferry", "dryer"}
    assert chain.invoke(QUESTION)["usage"]["encoded_tokens"] > 0


def test_an_answer_shows_its_refill_map_and_stays_a_plain_dict(chain: ACREAnswerChain) -> None:
    whole = chain.invoke(QUESTION)
    added = sum(chain.stream(QUESTION), start=ACREOutput())

    for output in (whole, added, asyncio.run(chain.ainvoke(QUESTION))):
        assert isinstance(output, ACREOutput)
        assert "<svg" in (output._repr_html_() or "")
        assert list(output) == ["context", "answer", "usage"]
    kept = JsonPlusSerializer().loads_typed(JsonPlusSerializer().dumps_typed(whole))
    assert kept == whole


def test_a_config_that_cannot_be_written_down_does_no_harm(chain: ACREAnswerChain) -> None:
    config: Any = {"metadata": {"lock": threading.Lock()}, "configurable": {"call": print}}

    assert chain.invoke(QUESTION, config)["answer"] == chain.invoke(QUESTION)["answer"]
