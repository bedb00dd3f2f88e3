"""What users of the framework see when something is wrong, empty, or gone."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import torch
from llama_index.core import Document, MockEmbedding, VectorStoreIndex
from llama_index.core.base.response.schema import RESPONSE_TYPE
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.core.tools import QueryEngineTool

from acre_llama_index import ACREIndex, ACREQueryEngine, ACRERetriever, ACRESynthesizer
from acre_rag import ACREEngine, ACREError, LocalModel
from tests.conftest import MakeEngine
from tests.integrations.conftest import TALKER_SETTINGS
from tests.integrations.llama_index_parts import QUESTION, llama_documents, memory
from tests.store.servers import running

Ask = Callable[[ACREQueryEngine], RESPONSE_TYPE]


def ask(query_engine: ACREQueryEngine) -> RESPONSE_TYPE:
    return query_engine.query(QUESTION)


def ask_later(query_engine: ACREQueryEngine) -> RESPONSE_TYPE:
    return asyncio.run(query_engine.aquery(QUESTION))


BOTH = pytest.mark.parametrize("asking", [ask, ask_later])


@pytest.mark.redis
@BOTH
def test_a_store_that_is_down_is_reported_in_our_words(
    make_engine: MakeEngine, talker: LocalModel, tmp_path: Path, asking: Ask
) -> None:
    with running(tmp_path) as server:
        engine = make_engine(model=talker, store=server.url, config=TALKER_SETTINGS)
        index = ACREIndex.from_documents(llama_documents(), engine=engine)
        assert str(asking(index.as_query_engine(max_new_tokens=2)))

    with pytest.raises(ACREError, match="redis"):
        asking(index.as_query_engine(max_new_tokens=2))
    with pytest.raises(ACREError, match="redis"):
        ACRERetriever(engine).retrieve(QUESTION)
    with pytest.raises(ACREError, match="redis"):
        index.insert(Document(doc_id="boat", text="The mail boat leaves at ten."))
    assert set(index.ref_doc_info) == {"ferry", "dryer"}


@BOTH
@pytest.mark.parametrize("streaming", [False, True])
def test_errors_are_raised_where_the_question_is_asked(
    engine: ACREEngine, asking: Ask, streaming: bool
) -> None:
    gone = ACREQueryEngine(engine, documents=["gone"], streaming=streaming)
    long = ACREQueryEngine(engine, max_new_tokens=5000, streaming=streaming)
    idle = ACREQueryEngine(engine, refill_tokens=-1, streaming=streaming)
    nothing = ACREQueryEngine(engine, max_new_tokens=0, streaming=streaming)

    for query_engine in (gone, long, idle, nothing):
        with pytest.raises(ACREError, match="expected"):
            asking(query_engine)


def test_the_model_is_free_after_every_failure(engine: ACREEngine) -> None:
    for documents, length in ((["gone"], 2), (None, 5000)):
        with pytest.raises(ACREError):
            asyncio.run(
                ACREQueryEngine(engine, documents=documents, max_new_tokens=length).aquery(QUESTION)
            )

    assert str(asyncio.run(ACREQueryEngine(engine, max_new_tokens=2).aquery(QUESTION)))


@pytest.fixture
def mute(engine: ACREEngine, monkeypatch: pytest.MonkeyPatch) -> ACREEngine:
    """An engine whose model ends every answer before its first word."""
    model, end = engine.reader.local.model, engine.reader.local.tokenizer.eos_token_id
    forward = model.forward

    def fall_silent(*args: object, **kwargs: object) -> object:
        output = forward(*args, **kwargs)
        output.logits[..., end] = torch.finfo(output.logits.dtype).max
        return output

    monkeypatch.setattr(model, "forward", fall_silent)
    return engine


def test_an_empty_answer_is_empty_wherever_it_goes(mute: ACREEngine) -> None:
    query_engine = ACREQueryEngine(mute)
    streaming = ACREQueryEngine(mute, streaming=True)
    tool = QueryEngineTool.from_defaults(query_engine, name="mute", description="Says nothing")
    index = ACREIndex.from_documents(llama_documents(), engine=mute)

    async def ask_tool() -> str:
        return (await tool.acall(QUESTION)).content

    assert str(query_engine.query(QUESTION)) == ""
    assert str(asyncio.run(query_engine.aquery(QUESTION))) == ""
    assert str(streaming.query(QUESTION)) == ""
    assert str(streaming.query(QUESTION).get_response()) == ""
    assert str(asyncio.run(streaming.aquery(QUESTION))) == ""
    assert tool.call(QUESTION).content == asyncio.run(ask_tool()) == ""
    assert ACRESynthesizer(mute).get_response(QUESTION, ["The ferry leaves."]) == ""
    assert str(index.as_chat_engine(memory=memory()).chat(QUESTION)) == ""


def nodes_of(*texts: str) -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(text=text)) for text in texts]


def test_nodes_without_text_are_left_out(engine: ACREEngine) -> None:
    synthesizer = ACRESynthesizer(engine, max_new_tokens=3)

    mixed = synthesizer.synthesize(QUESTION, nodes_of("", "It leaves at nine. 🚢", " \n"))

    assert mixed.response == synthesizer.get_response(QUESTION, ["It leaves at nine. 🚢"])
    assert str(synthesizer.synthesize(QUESTION, nodes_of("", " "))) == "Empty Response"
    assert synthesizer.get_response(QUESTION, ["", " "]) == "Empty Response"


def test_text_that_cannot_be_read_is_one_clear_error(engine: ACREEngine) -> None:
    synthesizer = ACRESynthesizer(engine)

    for text in ("a\0b", "half a pair \ud83d"):
        with pytest.raises(ACREError, match="expected text"):
            synthesizer.get_response(QUESTION, [text])


def test_a_blank_question_is_one_clear_error_or_an_answer(engine: ACREEngine) -> None:
    with pytest.raises(ACREError, match="expected"):
        ACREQueryEngine(engine, max_new_tokens=2).query(" ")


@pytest.mark.parametrize("streaming", [False, True])
def test_sixteen_questions_of_many_kinds_at_once(engine: ACREEngine, streaming: bool) -> None:
    """Indexes, retrievers in front, text for a synthesizer: all on one engine, some refused."""
    index = ACREIndex.from_documents(llama_documents(), engine=engine)
    vectors = VectorStoreIndex.from_documents(
        llama_documents(), embed_model=MockEmbedding(embed_dim=2)
    )
    kinds = [
        index.as_query_engine(streaming=streaming, max_new_tokens=3),
        ACREQueryEngine(engine, vectors.as_retriever(), streaming, max_new_tokens=3),
        ACREQueryEngine(engine, streaming=streaming, documents=["dryer"], max_new_tokens=3),
        ACREQueryEngine(engine, streaming=streaming, documents=["gone"]),
    ]

    async def text_of(answer: Awaitable[RESPONSE_TYPE]) -> str:
        response = await answer
        return str(await response.get_response() if streaming else response).strip()

    async def all_at_once() -> list[str | BaseException]:
        asked = [text_of(kinds[n % 4].aquery(f"Question {n}?")) for n in range(16)]
        return await asyncio.gather(*asked, return_exceptions=True)

    for number, answer in enumerate(asyncio.run(all_at_once())):
        if number % 4 == 3:
            assert isinstance(answer, ACREError)
        else:
            again = kinds[number % 4].query(f"Question {number}?")
            assert answer == str(again.get_response() if streaming else again).strip()
