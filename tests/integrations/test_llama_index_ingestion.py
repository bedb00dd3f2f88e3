"""The framework's ingestion pipeline with caches behind it."""

import asyncio
from pathlib import Path

import pytest
from llama_index.core import Document, MockEmbedding, VectorStoreIndex
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters, VectorStoreQuery

from acre_llama_index import (
    ACREIngestionPipeline,
    ACREQueryEngine,
    ACRETransform,
    ACREVectorStore,
)
from acre_rag import ACREEngine, ACREError
from tests.conftest import MakeEngine

QUESTION = "When does the ferry leave?"
FERRY = Document(doc_id="ferry", text="The ferry leaves at nine. 🚢 " * 3, metadata={"year": 2020})
DRYER = Document(doc_id="dryer", text="The oil is changed in May.")
LONG = Document(
    doc_id="long",
    text="".join(f"Ferry {number} leaves at nine, says Jörg 🚢. " for number in range(9)),
    metadata={"harbour": "Ålesund"},
)


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


def split(engine: ACREEngine, docstore: SimpleDocumentStore) -> IngestionPipeline:
    """A pipeline whose documents come in parts."""
    return ACREIngestionPipeline(
        transformations=[SentenceSplitter(chunk_size=24, chunk_overlap=0), ACRETransform()],
        vector_store=ACREVectorStore(engine),
        docstore=docstore,
    )


def test_parts_of_documents_are_read_each_for_itself_and_know_their_places(
    empty_engine: ACREEngine,
) -> None:
    split(empty_engine, SimpleDocumentStore()).run(documents=[LONG])

    assert len(stored(empty_engine)) > 2
    response = ACREQueryEngine(empty_engine, refill_tokens=60, max_new_tokens=2).query(QUESTION)
    assert max(found.node.start_char_idx for found in response.source_nodes) > 100
    for found in response.source_nodes:
        assert found.node.ref_doc_id == "long"
        assert found.node.metadata == LONG.metadata
        assert LONG.text[found.node.start_char_idx : found.node.end_char_idx] == found.node.text


def test_parts_of_a_document_that_changed_are_gone(empty_engine: ACREEngine) -> None:
    pipeline = split(empty_engine, SimpleDocumentStore())
    pipeline.run(documents=[LONG, DRYER])
    before = stored(empty_engine)

    pipeline.run(documents=[Document(doc_id="long", text="It leaves at one."), DRYER])

    texts = {s.text.strip() for s in empty_engine.retrieve(QUESTION, refill_tokens=60).sources}
    assert texts == {"It leaves at one.", DRYER.text}
    assert len(stored(empty_engine) & before) == 1


def test_what_the_store_has_lost_is_read_again_though_the_docstore_remembers_it(
    empty_engine: ACREEngine, make_engine: MakeEngine, tmp_path: Path
) -> None:
    docstore = SimpleDocumentStore()
    pipeline = ACREIngestionPipeline(
        transformations=[ACRETransform()],
        vector_store=ACREVectorStore(empty_engine),
        docstore=docstore,
    )
    same_text = Document(doc_id="copy", text=FERRY.text, metadata=FERRY.metadata)
    documents = [FERRY, same_text, DRYER]
    pipeline.run(documents=documents)
    for name in ("ferry", "copy"):
        empty_engine.delete(name)

    asyncio.run(pipeline.arun(documents=documents))
    assert stored(empty_engine) == {"ferry", "copy", "dryer"}

    other = make_engine(model=empty_engine.reader.local, store=tmp_path / "another")
    pipeline.vector_store = ACREVectorStore(other)
    pipeline.run(documents=documents)
    assert stored(other) == {"ferry", "copy", "dryer"}


def test_what_is_cached_and_remembered_is_not_read_again(
    empty_engine: ACREEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = split(empty_engine, SimpleDocumentStore())
    pipeline.run(documents=[LONG, DRYER])
    monkeypatch.setattr(empty_engine, "ingest", lambda *_: pytest.fail("read again"))

    pipeline.run(documents=[LONG, DRYER])


@pytest.mark.parametrize("strategy", list(DocstoreStrategy))
def test_every_strategy_reads_what_is_new(
    empty_engine: ACREEngine, strategy: DocstoreStrategy
) -> None:
    pipeline = ACREIngestionPipeline(
        transformations=[ACRETransform()],
        vector_store=ACREVectorStore(empty_engine),
        docstore=SimpleDocumentStore(),
        docstore_strategy=strategy,
    )
    pipeline.run(documents=[FERRY])
    pipeline.run(documents=[FERRY, DRYER])

    assert stored(empty_engine) == {"ferry", "dryer"}


def test_a_pipeline_is_persisted_and_loaded(empty_engine: ACREEngine, tmp_path: Path) -> None:
    split(empty_engine, SimpleDocumentStore()).run(documents=[LONG])
    pipeline = split(empty_engine, SimpleDocumentStore())
    pipeline.run(documents=[LONG])
    pipeline.persist(str(tmp_path / "pipeline"))
    before = stored(empty_engine)

    loaded = split(empty_engine, SimpleDocumentStore())
    loaded.load(str(tmp_path / "pipeline"))
    loaded.run(documents=[LONG])

    assert stored(empty_engine) == before


def test_blank_documents_leave_nothing(empty_engine: ACREEngine) -> None:
    pipeline = split(empty_engine, SimpleDocumentStore())

    pipeline.run(documents=[Document(doc_id="blank", text=" \n"), DRYER])

    assert len(stored(empty_engine)) == 1


def test_a_vector_index_deletes_nodes_and_documents(empty_engine: ACREEngine) -> None:
    store = ACREVectorStore(empty_engine)
    IngestionPipeline(transformations=[ACRETransform()], vector_store=store).run(
        documents=[FERRY, DRYER]
    )
    index = VectorStoreIndex.from_vector_store(store, embed_model=MockEmbedding(embed_dim=2))

    store.delete_nodes()
    assert stored(empty_engine) == {"ferry", "dryer"}
    index.delete_nodes(["dryer"])
    assert stored(empty_engine) == {"ferry"}
    store.delete_nodes(filters=MetadataFilters(filters=[MetadataFilter(key="year", value=2020)]))
    assert stored(empty_engine) == set()


def test_a_query_without_text_is_refused(empty_engine: ACREEngine) -> None:
    with pytest.raises(ACREError, match="query_str"):
        ACREVectorStore(empty_engine).query(VectorStoreQuery(query_embedding=[1.0]))


def test_a_query_is_confined_to_documents_whole_or_in_parts_and_to_nodes(
    empty_engine: ACREEngine,
) -> None:
    split(empty_engine, SimpleDocumentStore()).run(documents=[LONG, DRYER])
    store = ACREVectorStore(empty_engine)
    store.add([FERRY])
    parts = sorted(stored(empty_engine) - {"ferry"})

    def asked(**confined: list[str]) -> set[str]:
        found = store.query(VectorStoreQuery(query_str=QUESTION, similarity_top_k=99, **confined))
        return {node.ref_doc_id for node in found.nodes}

    assert asked() == asked(node_ids=[]) == {"ferry", "long", "dryer"}
    assert asked(doc_ids=["long"]) == asked(doc_ids=["long", "nowhere"]) == {"long"}
    assert asked(doc_ids=["ferry", "dryer"]) == {"ferry", "dryer"}
    assert asked(node_ids=["ferry"]) == {"ferry"}
    assert asked(node_ids=parts) == {"long", "dryer"}
    assert asked(node_ids=[*parts, "ferry"], doc_ids=["ferry", "dryer"]) == {"ferry", "dryer"}
    assert asked(node_ids=parts, doc_ids=["ferry"]) == set()
    assert asked(doc_ids=["nowhere"]) == asked(doc_ids=[]) == asked(node_ids=["nowhere"]) == set()


def test_a_document_that_was_read_whole_and_in_parts_is_deleted_in_both(
    empty_engine: ACREEngine,
) -> None:
    split(empty_engine, SimpleDocumentStore()).run(documents=[LONG, DRYER])
    store = ACREVectorStore(empty_engine)
    store.add([LONG, FERRY])

    store.delete("long")

    assert store.ref_doc_ids() == {"ferry", "dryer"}
