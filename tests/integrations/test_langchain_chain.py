"""`ACREAnswerChain` as users compose it."""

import asyncio
import threading
import time
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.runnables import (
    ConfigurableField,
    Runnable,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
)
from langchain_core.vectorstores import InMemoryVectorStore
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from acre_langchain import ACREAnswerChain, ACREOutput, ACRERetriever, ACRETool, ChatACRE
from acre_rag import ACREEngine, ACREError, AnswerStream, LocalModel
from tests.conftest import MakeEngine
from tests.integrations.conftest import DRYER, FERRY, TALKER_SETTINGS, decoding_threads
from tests.store.servers import running

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


def nothing_to_ask(engine: ACREEngine) -> list[Runnable[str, dict[str, Any]]]:
    empty: Runnable[str, list[Document]] = RunnableLambda(lambda _: [])
    return [
        ACREAnswerChain(engine=engine, filter={"kind": "novel"}),
        ACREAnswerChain(engine=engine, retriever=empty),
    ]


def test_without_any_document_it_says_so(engine: ACREEngine) -> None:
    for chain in nothing_to_ask(engine):
        with pytest.raises(ACREError, match="no stored document is left to ask"):
            chain.invoke(QUESTION)
        with pytest.raises(ACREError, match="no stored document is left to ask"):
            asyncio.run(chain.ainvoke(QUESTION))


@pytest.mark.parametrize("found", [None, ["nine"], Document("nine")])
def test_a_retriever_that_gives_no_documents_is_named(engine: ACREEngine, found: object) -> None:
    retriever: Runnable[str, list[Document]] = RunnableLambda(lambda _: found)
    chain = ACREAnswerChain(engine=engine, retriever=retriever)

    with pytest.raises(ACREError, match=r"the retriever gave a .*; expected a list of documents"):
        chain.invoke(QUESTION)


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


def test_settings_of_one_call_are_refused_however_they_are_given(chain: ACREAnswerChain) -> None:
    words = r"found documents given with a call or bound; expected none here: make an ACREAnswer"

    async def drain() -> None:
        async for _ in chain.bind(documents=["dryer"]).astream(QUESTION):
            pass

    with pytest.raises(ACREError, match=words):
        chain.invoke(QUESTION, documents=["dryer"])
    with pytest.raises(ACREError, match=words):
        chain.bind(documents=["dryer"]).batch([QUESTION])
    with pytest.raises(ACREError, match=words):
        list(chain.stream(QUESTION, documents=["dryer"]))
    with pytest.raises(ACREError, match=words):
        asyncio.run(drain())
    with pytest.raises(ACREError, match="found max_new_tokens, stop given"):
        asyncio.run(chain.ainvoke(QUESTION, stop=["."], max_new_tokens=2))


def test_a_wrong_id_is_an_error_beside_a_filter_too(engine: ACREEngine) -> None:
    wanted = {"kind": "manual"}
    chain = ACREAnswerChain(engine=engine, documents=["dryer", "gone"], filter=wanted)

    with pytest.raises(ACREError, match="'gone' is not stored"):
        chain.invoke(QUESTION)
    with pytest.raises(ACREError, match="'gone' is not stored"):
        ACRERetriever(engine=engine, documents=["gone"], filter=wanted).invoke(QUESTION)
    with pytest.raises(ACREError, match="'gone' is not stored"):
        ChatACRE(engine=engine, documents=["gone"], filter=wanted).invoke(QUESTION)


@pytest.mark.redis
def test_a_store_that_is_down_is_reported_in_our_words(
    make_engine: MakeEngine, talker: LocalModel, tmp_path: Path
) -> None:
    with running(tmp_path) as server:
        engine = make_engine(model=talker, store=server.url, config=TALKER_SETTINGS)
        engine.ingest([DRYER])
        chain = ACREAnswerChain(engine=engine, max_new_tokens=2)
        assert chain.invoke(QUESTION)["answer"]

    tool = ACRETool(chain=chain, handle_tool_error=True)
    with pytest.raises(ACREError, match="redis"):
        chain.invoke(QUESTION)
    with pytest.raises(ACREError, match="redis"):
        asyncio.run(chain.ainvoke(QUESTION))
    with pytest.raises(ACREError, match="redis"):
        ACRERetriever(engine=engine).invoke(QUESTION)
    with pytest.raises(ACREError, match="redis"):
        ChatACRE(engine=engine, documents="all").invoke(QUESTION)
    assert "redis" in tool.invoke({"question": QUESTION})


def test_bad_input_is_reported_in_our_words(engine: ACREEngine, chain: ACREAnswerChain) -> None:
    with pytest.raises(ACREError, match="the question is a dict; expected a string"):
        chain.invoke({"question": QUESTION})  # type: ignore[arg-type]
    with pytest.raises(ACREError, match="the question is empty"):
        chain.invoke("  ")
    with pytest.raises(ACREError, match="'gone' is not stored"):
        ACREAnswerChain(engine=engine, documents=["gone"]).invoke(QUESTION)
    with pytest.raises(ACREError, match="expected"):
        ACREAnswerChain(engine=engine, max_new_tokens=50_000).invoke(QUESTION)
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        ACREAnswerChain(engine=engine, max_new_tokens=0)
