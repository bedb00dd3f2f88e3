"""The framework's ingestion pipeline over an engine: upserts and deletions reach the caches."""

from collections.abc import Sequence

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode, NodeWithScore
from llama_index.core.vector_stores import VectorStoreQuery, VectorStoreQueryResult
from llama_index.core.vector_stores.types import BasePydanticVectorStore

from acre_llama_index.asking import retrieve_scope
from acre_llama_index.candidates import Scope, as_document, has_text
from acre_llama_index.whole_documents import WholeDocuments
from acre_llama_index.worker import worker_of
from acre_rag import ACREEngine, ACREError


class ACRETransform(WholeDocuments):
    """Makes documents ready for `ACREVectorStore`: whole, and with an embedding.

    The pipeline hands over only nodes that have an embedding; nothing ever looks at this one. No
    cache is written here, so that the pipeline may skip this step whenever it remembers it.
    """

    @classmethod
    def class_name(cls) -> str:
        """Name the class as the framework's serialization wants it."""
        return "ACRETransform"

    def __call__(self, nodes: Sequence[BaseNode], **_unused: object) -> list[BaseNode]:
        """Copy nodes, each a document of its own, with an embedding."""
        return [node.model_copy(update={"embedding": [1.0]}) for node in super().__call__(nodes)]


class ACREVectorStore(BasePydanticVectorStore):
    """An engine's documents where the framework expects a vector store.

    Put it behind an `IngestionPipeline` with `ACRETransform` as its transformation. It searches
    by the question's text; embeddings are not looked at.

    Args:
        engine: Reads and selects; `None` makes one with the default model and store.
    """

    stores_text: bool = True
    is_embedding_query: bool = False
    _engine: ACREEngine = PrivateAttr()

    def __init__(self, engine: ACREEngine | None = None) -> None:
        super().__init__(stores_text=True)
        self._engine = engine if engine is not None else ACREEngine()

    @classmethod
    def class_name(cls) -> str:
        """Name the class as the framework's serialization wants it."""
        return "ACREVectorStore"

    @property
    def client(self) -> ACREEngine:
        """The engine."""
        return self._engine

    def add(self, nodes: Sequence[BaseNode], **_unused: object) -> list[str]:
        """Read whole documents; those stored and unchanged are not read again.

        Raises:
            ACREError: A node is a part of a document, or cannot be read or stored.
        """
        parts = [n for n in nodes if n.ref_doc_id is not None and n.ref_doc_id != n.node_id]
        if parts:
            raise ACREError(
                f"node {parts[0].node_id!r} is a part of document {parts[0].ref_doc_id!r}; "
                "expected whole documents: make ACRETransform() the only transformation"
            )
        full = [node for node in nodes if has_text(node)]
        self._engine.ingest(as_document(node.node_id, node) for node in full)
        return [node.node_id for node in full]

    async def async_add(self, nodes: Sequence[BaseNode], **_unused: object) -> list[str]:
        """Read documents in the engine's worker."""
        return await worker_of(self._engine).run(lambda: self.add(nodes))

    def delete(self, ref_doc_id: str, **_unused: object) -> None:
        """Remove a document's cache."""
        self._engine.delete(ref_doc_id)

    async def adelete(self, ref_doc_id: str, **_unused: object) -> None:
        """Remove a document's cache in the engine's worker."""
        await worker_of(self._engine).run(lambda: self.delete(ref_doc_id))

    def query(self, query: VectorStoreQuery, **_unused: object) -> VectorStoreQueryResult:
        """Find the best places for a question's text.

        Raises:
            ACREError: The query has no text.
        """
        if query.query_str is None:
            raise ACREError("the query has an embedding alone; expected query_str: give its text")
        documents = tuple(query.doc_ids) if query.doc_ids is not None else None
        nodes, _ = retrieve_scope(
            self._engine,
            query.query_str,
            Scope(documents=documents, filters=query.filters),
            refill_tokens=None,
            sources=query.similarity_top_k,
        )
        return _result(nodes)

    async def aquery(self, query: VectorStoreQuery, **_unused: object) -> VectorStoreQueryResult:
        """Find the best places in the engine's worker."""
        return await worker_of(self._engine).run(lambda: self.query(query))


def _result(nodes: Sequence[NodeWithScore]) -> VectorStoreQueryResult:
    return VectorStoreQueryResult(
        nodes=[found.node for found in nodes],
        similarities=[found.score or 0.0 for found in nodes],
        ids=[found.node_id for found in nodes],
    )
