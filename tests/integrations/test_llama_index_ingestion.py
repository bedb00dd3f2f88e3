"""The framework's ingestion pipeline with caches behind it."""

import asyncio

import pytest
from llama_index.core import Document, MockEmbedding, VectorStoreIndex
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores import VectorStoreQuery

from acre_llama_index import ACREQueryEngine, ACRETransform, ACREVectorStore
from acre_rag import ACREEngine, ACREError

QUESTION = "When does the ferry leave?"
FERRY = Document(doc_id="ferry", text="The ferry leaves at nine. 🚢 " * 3, metadata={"year": 2020})
DRYER = Document(doc_id="dryer", text="The oil is changed in May.")


@pytest.fixture
def pipeline(empty_engine: ACREEngine) -> IngestionPipeline:
    return IngestionPipeline(
        transformations=[ACRETransform()],
        vector_store=ACREVectorStore(empty_engine),
        docstore=SimpleDocumentStore(),
        docstore_strategy=DocstoreStrategy.UPSERTS_AND_DELETE,
    )


def stored(engine: ACREEngine) -> set[str]:
    return {document.id for document in engine.documents()}


def test_what_vanishes_from_the_input_vanishes_from_the_store(
    pipeline: IngestionPipeline, empty_engine: ACREEngine
) -> None:
    pipeline.run(documents=[FERRY, DRYER])
    assert stored(empty_engine) == {"ferry", "dryer"}

    pipeline.run(documents=[FERRY])

    assert stored(empty_engine) == {"ferry"}


def test_what_changes_in_the_input_changes_in_the_store(
    pipeline: IngestionPipeline, empty_engine: ACREEngine
) -> None:
    pipeline.run(documents=[FERRY])
    changed = Document(doc_id="ferry", text="It leaves at twelve.")

    asyncio.run(pipeline.arun(documents=[changed]))

    (source, *_) = empty_engine.retrieve(QUESTION).sources
    assert changed.text[source.start : source.end] == source.text


def test_a_step_that_the_pipeline_remembers_leaves_no_cache_missing(
    empty_engine: ACREEngine,
) -> None:
    store = ACREVectorStore(empty_engine)
    pipeline = IngestionPipeline(transformations=[ACRETransform()], vector_store=store)
    pipeline.run(documents=[FERRY])
    empty_engine.delete("ferry")

    pipeline.run(documents=[FERRY])

    assert stored(empty_engine) == {"ferry"}


def test_a_vector_index_searches_it(pipeline: IngestionPipeline, empty_engine: ACREEngine) -> None:
    pipeline.run(documents=[FERRY, DRYER])
    embedding = MockEmbedding(embed_dim=2)
    index = VectorStoreIndex.from_vector_store(pipeline.vector_store, embed_model=embedding)

    nodes = index.as_retriever(similarity_top_k=3, doc_ids=["ferry"]).retrieve(QUESTION)
    later = asyncio.run(index.as_retriever(similarity_top_k=3).aretrieve(QUESTION))

    assert len(nodes) == len(later) == 3
    for found in nodes:
        assert found.node.ref_doc_id == "ferry"
        assert found.node.metadata == {"year": 2020}
        assert FERRY.text[found.node.start_char_idx : found.node.end_char_idx] == found.node.text
    front = ACREQueryEngine(empty_engine, index.as_retriever(), max_new_tokens=3)
    assert front.query(QUESTION).metadata["usage"]["encoded_tokens"] == 0


def test_parts_of_documents_are_refused(empty_engine: ACREEngine) -> None:
    splitter = SentenceSplitter(chunk_size=12, chunk_overlap=0)
    store = ACREVectorStore(empty_engine)
    pipeline = IngestionPipeline(transformations=[splitter, ACRETransform()], vector_store=store)

    with pytest.raises(ACREError, match="part of document 'ferry'"):
        pipeline.run(documents=[FERRY])


def test_a_query_without_text_is_refused(empty_engine: ACREEngine) -> None:
    with pytest.raises(ACREError, match="query_str"):
        ACREVectorStore(empty_engine).query(VectorStoreQuery(query_embedding=[1.0]))
