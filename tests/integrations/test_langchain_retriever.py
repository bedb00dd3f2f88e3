"""`ACRERetriever` as users call it."""

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.load import Serializable, dumpd
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import ConfigurableField

from acre_langchain import ACREAnswerChain, ACRERetriever, ACRETool, ChatACRE
from acre_rag import ACREEngine, ACREError
from acre_rag import Document as ACREDocument
from tests.integrations.conftest import DRYER, FERRY, decoding_threads
from tests.integrations.event_loops import cancel_while_it_waits

QUESTION = "When does the ferry leave?"
TEXTS = {FERRY.id: FERRY.text, DRYER.id: DRYER.text}


def asked(found: list[Document]) -> set[str]:
    return {one.metadata["document_id"] for one in found}


def test_documents_name_exact_characters_whatever_the_script(engine: ACREEngine) -> None:
    retriever = ACRERetriever(engine=engine, k=40, refill_tokens=400)

    found = retriever.invoke(QUESTION)

    assert isinstance(retriever, BaseRetriever)
    assert asked(found) == {"ferry", "dryer"}
    for one in found:
        place = one.metadata
        text = TEXTS[place["document_id"]][place["start_index"] : place["end_index"]]
        assert text == one.page_content


def test_the_best_come_first_with_the_metadata_of_their_documents(engine: ACREEngine) -> None:
    found = ACRERetriever(engine=engine, k=6, documents=["ferry"]).invoke(QUESTION)

    scores = [one.metadata["score"] for one in found]
    assert scores == sorted(scores, reverse=True)
    assert all(one.metadata["titel"] == "Fähre 🚢" for one in found)
    assert len({one.id for one in found}) == 6


def test_our_places_win_over_metadata_of_the_same_name(empty_engine: ACREEngine) -> None:
    named = {"score": "high", "start_index": -1, "kind": "notes"}
    empty_engine.ingest([ACREDocument(id="boat", text=FERRY.text, metadata=named)])

    (best,) = ACRERetriever(engine=empty_engine, k=1).invoke(QUESTION)

    place = best.metadata
    assert FERRY.text[place["start_index"] : place["end_index"]] == best.page_content
    assert isinstance(place["score"], float)
    assert place["kind"] == "notes"


def test_they_are_the_places_that_the_engine_would_refill(engine: ACREEngine) -> None:
    ours = ACRERetriever(engine=engine, k=3, refill_tokens=40).invoke(QUESTION)
    theirs = engine.retrieve(QUESTION, refill_tokens=40, sources=3).sources

    assert sorted((one.metadata["document_id"], one.metadata["start_index"]) for one in ours) == (
        sorted((source.document, source.start) for source in theirs)
    )


def test_k_may_be_given_with_the_question_sync_and_async(engine: ACREEngine) -> None:
    retriever = ACRERetriever(engine=engine)

    assert len(retriever.invoke(QUESTION)) == 4
    assert len(retriever.invoke(QUESTION, k=2)) == 2
    assert asyncio.run(retriever.ainvoke(QUESTION, k=2)) == retriever.invoke(QUESTION, k=2)


def test_k_may_be_configured(engine: ACREEngine) -> None:
    retriever = ACRERetriever(engine=engine).configurable_fields(k=ConfigurableField(id="places"))

    assert len(retriever.invoke(QUESTION, {"configurable": {"places": 3}})) == 3


def test_filters_choose_documents_by_metadata(engine: ACREEngine) -> None:
    by_value = ACRERetriever(engine=engine, filter={"kind": "manual", "year": 2021})
    by_function = ACRERetriever(engine=engine, filter=lambda known: "year" not in known)
    among_ids = ACRERetriever(engine=engine, documents=["ferry"], filter={"kind": "manual"})

    assert asked(by_value.invoke(QUESTION)) == {"dryer"}
    assert asked(by_function.invoke(QUESTION)) == {"ferry"}
    assert among_ids.invoke(QUESTION) == []


def test_a_batch_is_as_one_by_one(engine: ACREEngine) -> None:
    retriever = ACRERetriever(engine=engine, k=2)
    questions = ["Who?", "When?", "Where to?"]
    one_by_one = [retriever.invoke(question) for question in questions]

    assert retriever.batch(questions) == one_by_one
    assert asyncio.run(retriever.abatch(questions)) == one_by_one


def test_nothing_is_decoded(engine: ACREEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "stream", pytest.fail)

    assert ACRERetriever(engine=engine).invoke(QUESTION)
    assert not decoding_threads()


@pytest.mark.parametrize("adapter", [ACRERetriever, ACREAnswerChain, ChatACRE, ACRETool])
def test_a_dump_holds_no_engine(engine: ACREEngine, adapter: Callable[..., Serializable]) -> None:
    dumped = dumpd(adapter(engine=engine))

    assert dumped["type"] == "not_implemented"
    assert len(json.dumps(dumped)) < 500
    assert "Engine" not in repr(adapter(engine=engine))


def test_bad_settings_are_reported_where_they_are_made(engine: ACREEngine) -> None:
    for bad in ({"k": 0}, {"k": "4"}, {"k": True}, {"similarity_top_k": 2}, {"documents": 3}):
        with pytest.raises(ValueError, match="validation error"):
            ACRERetriever(engine=engine, **bad)
    with pytest.raises(ACREError, match="found filter given with a call"):
        ACRERetriever(engine=engine).invoke(QUESTION, k=2, filter={"kind": "manual"})
    with pytest.raises(ACREError, match="found filter given with a call"):
        asyncio.run(ACRERetriever(engine=engine).bind(filter={"kind": "manual"}).ainvoke(QUESTION))
    with pytest.raises(ValueError, match="engine"):
        ACRERetriever()  # type: ignore[call-arg]
    for k in (0, "3", 2.5, True):
        with pytest.raises(ACREError, match=f"k is {k!r}; expected a whole number, 1 or more"):
            ACRERetriever(engine=engine).invoke(QUESTION, k=k)


def test_bad_questions_are_reported_in_our_words(
    engine: ACREEngine, empty_engine: ACREEngine
) -> None:
    with pytest.raises(ACREError, match="the question is empty"):
        ACRERetriever(engine=engine).invoke(" ")
    with pytest.raises(ACREError, match="'gone' is not stored"):
        asyncio.run(ACRERetriever(engine=engine, documents=["gone"]).ainvoke(QUESTION))
    engine.delete("ferry")
    engine.delete("dryer")
    with pytest.raises(ACREError, match="holds no documents"):
        ACRERetriever(engine=empty_engine).invoke(QUESTION)


def test_a_single_name_is_no_list_of_documents(engine: ACREEngine) -> None:
    with pytest.raises(ValueError, match="documents"):
        ACRERetriever(engine=engine, documents="ferry")


def test_a_config_that_cannot_be_written_down_does_no_harm(engine: ACREEngine) -> None:
    retriever = ACRERetriever(engine=engine)
    config: Any = {"metadata": {"lock": threading.Lock()}, "configurable": {"call": print}}

    assert retriever.invoke(QUESTION, config) == retriever.invoke(QUESTION)


def test_a_cancelled_question_that_waits_its_turn_never_runs(
    engine: ACREEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    retriever, chain = ACRERetriever(engine=engine), ACREAnswerChain(engine=engine)
    asked: list[object] = []

    async def ask_and_cancel() -> None:
        await cancel_while_it_waits(engine, chain.ainvoke("Go on"), retriever.ainvoke(QUESTION))
        await engine.worker.run(lambda: None)

    monkeypatch.setattr(engine, "retrieve", lambda *_, **__: asked.append(_))
    asyncio.run(ask_and_cancel())
    assert asked == []
