"""Retrievers that others make in front of our query engine: BM25, vectors, several fused."""

import asyncio
import re
import zlib
from collections.abc import Callable

import pytest
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.postprocessor import LLMRerank, LongContextReorder
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.schema import BaseNode
from llama_index.retrievers.bm25 import BM25Retriever

from acre_llama_index import ACRELLM, ACREQueryEngine, ACRERetriever, ACRESynthesizer
from acre_rag import ACREEngine
from tests.integrations.llama_index_parts import QUESTION, TEXTS, ScriptedLLM, llama_documents

OIL = "When is the oil of the dryer changed?"


class WordCounts(BaseEmbedding):
    """Embeds a text as its words, counted: a vector search without a model."""

    def _get_text_embedding(self, text: str) -> list[float]:
        counts = [0.0] * 256
        for word in re.findall(r"\w+", text.lower()):
            counts[zlib.crc32(word.encode()) % len(counts)] += 1.0
        return counts

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


def split(documents: list[Document]) -> list[BaseNode]:
    return SentenceSplitter(chunk_size=24, chunk_overlap=4).get_nodes_from_documents(documents)


def bm25(documents: list[Document]) -> BaseRetriever:
    return BM25Retriever.from_defaults(nodes=split(documents), similarity_top_k=2)


def vectors(documents: list[Document]) -> BaseRetriever:
    index = VectorStoreIndex(split(documents), embed_model=WordCounts())
    return index.as_retriever(similarity_top_k=2)


FRONTS = pytest.mark.parametrize("front", [bm25, vectors])
Front = Callable[[list[Document]], BaseRetriever]


@FRONTS
@pytest.mark.parametrize("later", [False, True])
def test_the_documents_that_a_retriever_finds_are_asked_whole_from_their_caches(
    engine: ACREEngine, front: Front, later: bool
) -> None:
    retriever = front(llama_documents())
    assert {found.node.ref_doc_id for found in retriever.retrieve(OIL)} == {"dryer"}
    query_engine = ACREQueryEngine(engine, retriever, max_new_tokens=5)

    response = asyncio.run(query_engine.aquery(OIL)) if later else query_engine.query(OIL)

    theirs = engine.ask(OIL, ["dryer"], max_new_tokens=5)
    assert str(response) == theirs.text
    assert response.metadata["usage"]["encoded_tokens"] == 0
    assert response.metadata["usage"]["document_tokens"] == theirs.usage.document_tokens
    assert {found.node.ref_doc_id for found in response.source_nodes} == {"dryer"}


@FRONTS
def test_text_of_a_retriever_that_the_engine_has_never_seen_is_read_once(
    empty_engine: ACREEngine, front: Front
) -> None:
    retriever = front(llama_documents())
    query_engine = ACREQueryEngine(empty_engine, retriever, max_new_tokens=3)

    first, second = query_engine.query(QUESTION), query_engine.query(QUESTION)

    assert first.metadata["usage"]["encoded_tokens"] > 0
    assert second.metadata["usage"]["encoded_tokens"] == 0
    assert str(first) == str(second)
    asked = sum(document.tokens for document in empty_engine.documents())
    assert first.metadata["usage"]["document_tokens"] == asked


@FRONTS
def test_places_in_text_that_a_retriever_gives_are_those_of_its_document(
    empty_engine: ACREEngine, front: Front
) -> None:
    query_engine = ACREQueryEngine(empty_engine, front(llama_documents()), max_new_tokens=2)

    nodes = [found.node for found in query_engine.query(QUESTION).source_nodes]

    assert nodes
    for node in nodes:
        assert TEXTS[node.ref_doc_id][node.start_char_idx : node.end_char_idx] == node.text


@FRONTS
def test_streams_and_the_frameworks_query_engine_take_them_too(
    engine: ACREEngine, front: Front
) -> None:
    retriever = front(llama_documents())
    whole = engine.ask(OIL, ["dryer"], max_new_tokens=5).text

    stream = ACREQueryEngine(engine, retriever, streaming=True, max_new_tokens=5).query(OIL)
    pieces = list(stream.response_gen)
    plain = RetrieverQueryEngine(retriever, ACRESynthesizer(engine, max_new_tokens=5)).query(OIL)

    assert len(pieces) > 3
    assert "".join(pieces).strip() == str(plain) == whole


@pytest.mark.parametrize("mode", ["reciprocal_rerank", "relative_score", "simple"])
@pytest.mark.parametrize("later", [False, True])
def test_ours_and_theirs_are_fused(engine: ACREEngine, mode: str, later: bool) -> None:
    fused = QueryFusionRetriever(
        [bm25(llama_documents()), vectors(llama_documents()), ACRERetriever(engine)],
        llm=ACRELLM(engine),
        mode=mode,
        num_queries=1,
        similarity_top_k=40,
        use_async=False,
    )

    query_engine = ACREQueryEngine(engine, fused, max_new_tokens=2)

    response = asyncio.run(query_engine.aquery(OIL)) if later else query_engine.query(OIL)

    assert {found.node.ref_doc_id for found in response.source_nodes} == set(TEXTS)
    assert response.metadata["usage"]["encoded_tokens"] == 0


@pytest.mark.parametrize("later", [False, True])
def test_a_reranker_chooses_among_what_they_found(engine: ACREEngine, later: bool) -> None:
    everything = VectorStoreIndex(split(llama_documents()), embed_model=WordCounts())
    retriever = everything.as_retriever(similarity_top_k=40)
    found = retriever.retrieve(OIL)
    last = max(place for place, one in enumerate(found) if one.node.ref_doc_id == "ferry")
    llm = ScriptedLLM(lines=[f"Doc: {last + 1}, Relevance: 9"])
    query_engine = ACREQueryEngine(
        engine,
        retriever,
        node_postprocessors=[
            LLMRerank(llm=llm, choice_batch_size=40, top_n=1), LongContextReorder()
        ],
        max_new_tokens=2,
    )  # fmt: skip

    response = asyncio.run(query_engine.aquery(OIL)) if later else query_engine.query(OIL)

    assert {one.node.ref_doc_id for one in found} == set(TEXTS)
    assert {one.node.ref_doc_id for one in response.source_nodes} == {"ferry"}


def test_sixteen_questions_through_a_retriever_at_once(engine: ACREEngine) -> None:
    query_engine = ACREQueryEngine(engine, bm25(llama_documents()), max_new_tokens=3)
    questions = [f"Question {number}: when is the oil changed?" for number in range(16)]
    one_by_one = [str(query_engine.query(question)) for question in questions]

    async def all_at_once() -> list[str]:
        return [str(one) for one in await asyncio.gather(*map(query_engine.aquery, questions))]

    assert asyncio.run(all_at_once()) == one_by_one
