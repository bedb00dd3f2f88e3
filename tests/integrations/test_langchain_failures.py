"""What users of LangChain see when something is wrong, empty, or gone."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.runnables import Runnable, RunnableLambda

from acre_langchain import ACREAnswerChain, ACRERetriever, ACRETool, ChatACRE
from acre_rag import ACREEngine, ACREError, LocalModel
from tests.conftest import MakeEngine
from tests.integrations.conftest import DRYER, TALKER_SETTINGS
from tests.store.servers import running

QUESTION = "When does the ferry leave?"


@pytest.fixture
def chain(engine: ACREEngine) -> ACREAnswerChain:
    return ACREAnswerChain(engine=engine, max_new_tokens=9)


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
