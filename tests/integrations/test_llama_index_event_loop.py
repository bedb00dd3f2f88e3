"""What asyncio asks of our LlamaIndex parts never reaches the store from the event loop."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from llama_index.core import Document
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores import VectorStoreQuery

from acre_llama_index import (
    ACREIndex,
    ACREIngestionPipeline,
    ACREQueryEngine,
    ACRERetriever,
    ACRESynthesizer,
    ACRETransform,
    ACREVectorStore,
)
from acre_rag import ACREEngine, LocalModel, open_store
from tests.conftest import MakeEngine
from tests.integrations.conftest import TALKER_SETTINGS
from tests.integrations.llama_index_parts import QUESTION, llama_documents, memory


class WatchedStore:
    """A store in a directory that notes which threads call it."""

    def __init__(self, folder: Path) -> None:
        self._store = open_store(folder)
        self.threads: set[str] = set()

    def __getattr__(self, name: str) -> object:
        value = getattr(self._store, name)
        if not callable(value):
            return value

        def call(*args: object, **kwargs: object) -> object:
            self.threads.add(threading.current_thread().name)
            return value(*args, **kwargs)

        return call


@pytest.fixture
def store(tmp_path: Path) -> WatchedStore:
    return WatchedStore(tmp_path / "caches")


@pytest.fixture
def engine(make_engine: MakeEngine, talker: LocalModel, store: WatchedStore) -> ACREEngine:
    return make_engine(model=talker, store=store, config=TALKER_SETTINGS)


def check(store: WatchedStore, ask: Callable[[], Awaitable[object]]) -> object:
    """Ask in an event loop; the store must be called, and never from the loop's own thread."""

    async def run() -> object:
        return await ask()

    store.threads.clear()
    result = asyncio.run(run())
    assert store.threads
    assert threading.current_thread().name not in store.threads
    return result


def test_an_index_changes_and_answers_beside_the_loop(
    engine: ACREEngine, store: WatchedStore
) -> None:
    index = ACREIndex.from_documents(llama_documents(), engine=engine)
    other = ACREIndex.from_documents([Document(doc_id="boat", text="At one.")], engine=engine)
    boat = Document(doc_id="boat", text="The boat leaves at ten.")

    check(store, lambda: index.ainsert(boat))
    other.as_retriever().retrieve(QUESTION)  # reads its own text again, as a passage
    check(store, lambda: other.aupdate_ref_doc(Document(doc_id="boat", text="At two.")))
    assert {one.id for one in engine.documents()} == {"ferry", "dryer", "boat"}
    refreshed = check(store, lambda: index.arefresh_ref_docs([boat, Document(doc_id="ferry")]))
    assert refreshed == [False, True]
    check(store, lambda: index.as_query_engine(max_new_tokens=2).aquery(QUESTION))
    check(store, lambda: index.as_retriever(similarity_top_k=1).aretrieve(QUESTION))
    chat = index.as_chat_engine(memory=memory(), max_new_tokens=2)
    check(store, lambda: chat.achat(QUESTION))
    check(store, lambda: index.adelete_nodes(["dryer"]))
    check(store, lambda: index.adelete_ref_doc("boat", delete_from_docstore=True))
    assert index.index_struct.contents == {}


def test_nodes_are_looked_up_read_and_asked_beside_the_loop(
    engine: ACREEngine, store: WatchedStore
) -> None:
    synthesizer = ACRESynthesizer(engine, max_new_tokens=2)
    node = NodeWithScore(node=TextNode(text="The ferry leaves at nine."))

    check(store, lambda: synthesizer.asynthesize(QUESTION, [node]))
    check(store, lambda: synthesizer.aget_response(QUESTION, ["Or at ten."]))
    retriever = ACRERetriever(engine, documents=[one.id for one in engine.documents()])
    check(store, lambda: ACREQueryEngine(retriever=retriever, max_new_tokens=2).aquery(QUESTION))


@pytest.mark.parametrize("strategy", ["upserts_and_delete", "duplicates_only"])
def test_a_pipeline_reads_forgets_and_deletes_beside_the_loop(
    engine: ACREEngine, store: WatchedStore, strategy: str
) -> None:
    pipeline = ACREIngestionPipeline(
        transformations=[SentenceSplitter(chunk_size=24, chunk_overlap=0), ACRETransform()],
        vector_store=ACREVectorStore(engine),
        docstore=SimpleDocumentStore(),
        docstore_strategy=strategy,
    )
    ferry, dryer = llama_documents()

    check(store, lambda: pipeline.arun(documents=[ferry, dryer]))
    check(store, lambda: pipeline.arun(documents=[Document(doc_id="ferry", text="At one.")]))


def test_a_vector_store_works_beside_the_loop(engine: ACREEngine, store: WatchedStore) -> None:
    vectors = ACREVectorStore(engine)
    ferry, dryer = llama_documents()

    check(store, lambda: vectors.async_add([ferry, dryer]))
    found = check(store, lambda: vectors.aquery(VectorStoreQuery(query_str=QUESTION)))
    assert found.nodes
    check(store, lambda: vectors.adelete("ferry"))
    check(store, lambda: vectors.adelete_nodes(["dryer"]))
    assert list(engine.documents()) == []
