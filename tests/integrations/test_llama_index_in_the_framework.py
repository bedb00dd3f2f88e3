"""Our parts inside the framework's own: routers, tools, retrievers, agents, instruments."""

import asyncio

import pytest
from llama_index.core import QueryBundle
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.base_selector import BaseSelector, SelectorResult, SingleSelection
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.query_engine import (
    RetrieverQueryEngine,
    RouterQueryEngine,
    SubQuestionQueryEngine,
)
from llama_index.core.question_gen.types import BaseQuestionGenerator, SubQuestion
from llama_index.core.retrievers import QueryFusionRetriever, RouterRetriever
from llama_index.core.schema import (
    NodeRelationship,
    NodeWithScore,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.tools import QueryEngineTool, RetrieverTool, ToolMetadata

from acre_llama_index import ACRELLM, ACREQueryEngine, ACRERetriever, ACRESynthesizer
from acre_rag import ACREEngine, ACREError
from tests.integrations.conftest import DRYER, FERRY, decoding_threads
from tests.integrations.event_loops import LONG

QUESTION = "When does the ferry leave?"
TEXTS = {FERRY.id: FERRY.text, DRYER.id: DRYER.text}


class FixedRetriever(BaseRetriever):
    """Finds the same nodes whatever the question, as a vector or BM25 retriever might."""

    def __init__(self, *nodes: TextNode) -> None:
        self._nodes = nodes
        super().__init__()

    def _retrieve(self, _question: QueryBundle) -> list[NodeWithScore]:
        return [NodeWithScore(node=node, score=0.5) for node in self._nodes]


class FirstSelector(BaseSelector):
    """Chooses the first tool, as an LLM might."""

    def _get_prompts(self) -> dict[str, object]:
        return {}

    def _update_prompts(self, prompts: dict[str, object]) -> None:
        pass

    def _select(self, *_: object, **__: object) -> SelectorResult:
        return SelectorResult(selections=[SingleSelection(index=0, reason="the only one")])

    async def _aselect(self, *_: object, **__: object) -> SelectorResult:
        return self._select()


def passage(text: str, *, document: str | None = None, start: int | None = None) -> TextNode:
    """A node as a splitter makes it."""
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=document)} if document else {}
    end = None if start is None else start + len(text)
    return TextNode(text=text, relationships=source, start_char_idx=start, end_char_idx=end)


def test_a_retriever_gives_the_best_places_first(engine: ACREEngine) -> None:
    nodes = ACRERetriever(engine, similarity_top_k=3).retrieve(QUESTION)

    assert len(nodes) == 3
    assert [n.score for n in nodes] == sorted((n.score for n in nodes), reverse=True)
    for found in nodes:
        place = slice(found.node.start_char_idx, found.node.end_char_idx)
        assert TEXTS[found.node.ref_doc_id][place] == found.node.text


def test_a_retriever_decodes_nothing(engine: ACREEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "stream", lambda *_: pytest.fail("the model was asked to answer"))

    assert asyncio.run(ACRERetriever(engine).aretrieve(QUESTION))


def test_a_retriever_looks_into_the_documents_it_is_given(engine: ACREEngine) -> None:
    nodes = ACRERetriever(engine, documents=["dryer"]).retrieve(QUESTION)

    assert {found.node.ref_doc_id for found in nodes} == {"dryer"}


@pytest.mark.parametrize("use_async", [False, True])
def test_rankings_are_fused_by_place(engine: ACREEngine, use_async: bool) -> None:
    retriever = ACRERetriever(engine, similarity_top_k=3)
    fused = QueryFusionRetriever(
        [retriever, retriever],
        llm=ACRELLM(engine),
        similarity_top_k=3,
        num_queries=1,
        use_async=use_async,
    )
    found = {one.node_id for one in retriever.retrieve(QUESTION)}

    assert {one.node_id for one in fused.retrieve(QUESTION)} == found


def test_a_router_retriever_reaches_it(engine: ACREEngine) -> None:
    tool = RetrieverTool.from_defaults(
        ACRERetriever(engine, documents=["dryer"]), description="Dryers"
    )
    router = RouterRetriever(FirstSelector(), [tool], llm=ACRELLM(engine))

    for found in (router.retrieve(QUESTION), asyncio.run(router.aretrieve(QUESTION))):
        assert {one.node.ref_doc_id for one in found} == {"dryer"}
    response = ACREQueryEngine(engine, router, max_new_tokens=4).query(QUESTION)
    assert str(response) == engine.ask(QUESTION, ["dryer"], max_new_tokens=4).text


def test_documents_of_a_retriever_in_front_are_asked_from_their_caches(engine: ACREEngine) -> None:
    front = FixedRetriever(passage("The oil is changed in May", document="dryer", start=39))

    response = ACREQueryEngine(engine, front, max_new_tokens=4).query(QUESTION)

    assert str(response) == engine.ask(QUESTION, ["dryer"], max_new_tokens=4).text
    assert response.metadata["usage"]["encoded_tokens"] == 0
    assert {found.node.ref_doc_id for found in response.source_nodes} == {"dryer"}


def test_text_that_is_not_stored_is_read_on_first_use_and_never_again(engine: ACREEngine) -> None:
    text = "渡し船 🚢 leaves at twelve on Sundays."
    whole = f"On weekdays it does not. {text}"
    query_engine = ACREQueryEngine(
        engine,
        FixedRetriever(passage(text, document="timetable", start=whole.index(text))),
        max_new_tokens=3,
    )

    first, second = query_engine.query(QUESTION), asyncio.run(query_engine.aquery(QUESTION))

    assert first.metadata["usage"]["encoded_tokens"] > 0
    assert second.metadata["usage"]["encoded_tokens"] == 0
    assert str(first) == str(second)
    for found in first.source_nodes:
        node = found.node
        assert node.ref_doc_id == "timetable"
        assert whole[node.start_char_idx : node.end_char_idx] == node.text


def test_text_that_was_read_for_a_retriever_answers_no_other_question(engine: ACREEngine) -> None:
    front = FixedRetriever(passage("Nobody else may see this."))
    ACREQueryEngine(engine, front, max_new_tokens=2).query(QUESTION)

    own = ACREQueryEngine(engine, max_new_tokens=2).query(QUESTION)

    assert own.metadata["usage"]["document_tokens"] == sum(
        document.tokens for document in engine.documents() if document.id in TEXTS
    )


def test_texts_of_a_retriever_are_deleted_when_asked_and_read_again_when_given(
    engine: ACREEngine,
) -> None:
    front = FixedRetriever(passage("The mail boat leaves at ten."), passage("Or at eleven."))
    query_engine = ACREQueryEngine(engine, front, max_new_tokens=2)
    before = str(query_engine.query(QUESTION))

    dropped = query_engine.drop_passages()

    assert dropped == 2
    assert {document.id for document in engine.documents()} == set(TEXTS)
    assert query_engine.drop_passages() == 0
    again = query_engine.query(QUESTION)
    assert str(again) == before
    assert again.metadata["usage"]["encoded_tokens"] > 0


@pytest.mark.parametrize("nodes", [(), (passage(" \n"),)])
def test_a_retriever_that_finds_no_text_gives_the_frameworks_empty_response(
    engine: ACREEngine, nodes: tuple[TextNode, ...]
) -> None:
    query_engine = ACREQueryEngine(engine, FixedRetriever(*nodes))

    assert str(query_engine.query(QUESTION)) == "Empty Response"
    assert str(asyncio.run(query_engine.aquery(QUESTION))) == "Empty Response"


def test_node_postprocessors_stand_between_retriever_and_answer(engine: ACREEngine) -> None:
    query_engine = ACREQueryEngine(
        engine,
        max_new_tokens=2,
        node_postprocessors=[SimilarityPostprocessor(similarity_cutoff=2.0)],
    )

    assert str(query_engine.query(QUESTION)) == "Empty Response"


def test_the_frameworks_query_engine_takes_our_parts(engine: ACREEngine) -> None:
    query_engine = RetrieverQueryEngine(
        ACRERetriever(engine, documents=["ferry"], similarity_top_k=2),
        ACRESynthesizer(engine, max_new_tokens=4),
    )

    response = query_engine.query(QUESTION)

    assert str(response) == engine.ask(QUESTION, ["ferry"], max_new_tokens=4).text
    assert str(asyncio.run(query_engine.aquery(QUESTION))) == str(response)


def test_a_synthesizer_answers_from_bare_text(engine: ACREEngine) -> None:
    synthesizer = ACRESynthesizer(engine, max_new_tokens=4)

    answer = synthesizer.get_response(QUESTION, ["It leaves at nine.", "Or at ten."])

    assert answer == asyncio.run(
        synthesizer.aget_response(QUESTION, ["It leaves at nine.", "Or at ten."])
    )
    streaming = ACRESynthesizer(engine, streaming=True, max_new_tokens=4)
    pieces = streaming.get_response(QUESTION, ["It leaves at nine.", "Or at ten."])
    assert "".join(pieces).strip() == answer


def test_a_router_reaches_it(engine: ACREEngine) -> None:
    tool = QueryEngineTool.from_defaults(
        ACREQueryEngine(engine, max_new_tokens=4), description="Ferries"
    )
    router = RouterQueryEngine(FirstSelector(), [tool], llm=ACRELLM(engine))

    response = router.query(QUESTION)

    assert str(response) == engine.ask(QUESTION, max_new_tokens=4).text
    assert response.source_nodes
    assert str(asyncio.run(router.aquery(QUESTION))) == str(response)


class AskEachTool(BaseQuestionGenerator):
    """Asks every tool the question as it is, as an LLM might."""

    def _get_prompts(self) -> dict[str, object]:
        return {}

    def _update_prompts(self, prompts: dict[str, object]) -> None:
        pass

    def generate(self, tools: list[ToolMetadata], query: QueryBundle) -> list[SubQuestion]:
        return [SubQuestion(sub_question=query.query_str, tool_name=tool.name) for tool in tools]

    async def agenerate(self, tools: list[ToolMetadata], query: QueryBundle) -> list[SubQuestion]:
        return self.generate(tools, query)


@pytest.mark.parametrize("use_async", [False, True])
def test_sub_questions_are_answered_and_put_together(engine: ACREEngine, use_async: bool) -> None:
    tools = [
        QueryEngineTool.from_defaults(
            ACREQueryEngine(engine, documents=[name], max_new_tokens=3), name=name, description=name
        )
        for name in TEXTS
    ]
    whole = SubQuestionQueryEngine(
        AskEachTool(),
        ACRESynthesizer(engine, max_new_tokens=3),
        tools,
        verbose=False,
        use_async=use_async,
    )

    response = whole.query(QUESTION)

    assert str(response)
    assert {n.node.ref_doc_id for n in response.source_nodes} >= set(TEXTS)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_tool_keeps_answer_and_sources(engine: ACREEngine, streaming: bool) -> None:
    query_engine = ACREQueryEngine(engine, streaming=streaming, max_new_tokens=4)
    tool = QueryEngineTool.from_defaults(query_engine, name="ferries", description="Ferries")

    output = tool.call(QUESTION)

    assert output.content.strip() == engine.ask(QUESTION, max_new_tokens=4).text
    assert output.raw_output.source_nodes
    later = asyncio.run(ask_tool(tool))
    assert later.content.strip() == output.content.strip()


async def ask_tool(tool: QueryEngineTool) -> object:
    return await tool.acall(QUESTION)


def test_a_retriever_tool_gives_the_text(engine: ACREEngine) -> None:
    tool = RetrieverTool.from_defaults(ACRERetriever(engine, similarity_top_k=1), description="x")

    output = tool.call(QUESTION)

    (found,) = output.raw_output
    assert found.node.text.strip() in output.content


def test_the_llm_completes_chats_and_streams(engine: ACREEngine) -> None:
    llm = ACRELLM(engine, max_new_tokens=6)
    messages = [ChatMessage(role=MessageRole.USER, content=QUESTION)]

    text = llm.complete(QUESTION).text

    assert text
    assert list(llm.stream_complete(QUESTION))[-1].text == text
    assert llm.chat(messages).message.content == text
    assert asyncio.run(llm.acomplete(QUESTION)).text == text
    assert asyncio.run(llm.achat(messages)).message.content == text
    assert asyncio.run(last_of_stream(llm)) == text


async def last_of_stream(llm: ACRELLM) -> str:
    deltas = [part.delta async for part in await llm.astream_complete(QUESTION)]
    assert len(deltas) > 1
    chat = [
        part.message.content
        async for part in await llm.astream_chat([ChatMessage(content=QUESTION)])
    ]
    assert chat[-1] == "".join(deltas)
    return "".join(deltas)


def test_the_llm_speaks_as_the_plain_model_does(engine: ACREEngine) -> None:
    local = engine.reader.local
    prompt = "Once the ferry"
    ids = local.tokenizer(prompt, return_tensors="pt", add_special_tokens=False)

    ours = ACRELLM(engine, max_new_tokens=7).complete(prompt, formatted=True).text
    theirs = local.model.generate(**ids, max_new_tokens=7, do_sample=False)

    rest = theirs[0, ids["input_ids"].shape[1] :]
    assert ours == local.tokenizer.decode(rest, skip_special_tokens=True)


def test_the_llm_takes_the_frameworks_roles_and_refuses_what_is_no_text(engine: ACREEngine) -> None:
    llm = ACRELLM(engine, max_new_tokens=6)
    roles = [MessageRole.DEVELOPER, MessageRole.USER, MessageRole.MODEL, MessageRole.TOOL]
    plain = [("system", "x"), ("user", "x"), ("assistant", "x"), ("user", "x")]

    said = llm.chat([ChatMessage(role=role, content="x") for role in roles]).message.content

    assert said == "".join(engine.complete(plain, 6))
    with pytest.raises(ACREError, match=r"ImageBlock.*expected text"):
        llm.chat([ChatMessage(blocks=[ImageBlock(image=b"no picture")])])


def test_a_stream_of_the_llm_that_is_left_frees_the_model(
    engine: ACREEngine, tokens: list[float]
) -> None:
    llm = ACRELLM(engine, max_new_tokens=LONG)

    async def leave() -> str:
        parts = await llm.astream_complete("Go on")
        await anext(parts)
        await parts.aclose()
        return (await ACRELLM(engine, max_new_tokens=2).acomplete("Go on")).text

    stream = llm.stream_complete("Go on")
    next(stream)
    stream.close()
    assert not decoding_threads()
    assert len(tokens) < LONG
    tokens.clear()
    assert asyncio.run(leave())
    assert 0 < len(tokens) < LONG


def test_a_prompt_beyond_the_context_is_reported_in_our_words(engine: ACREEngine) -> None:
    with pytest.raises(ACREError, match="shorten the prompt"):
        ACRELLM(engine).complete("the ferry " * 5000)
