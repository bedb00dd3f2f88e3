"""`ACREVectorStore`: an engine's documents where the framework expects a vector store."""

from collections.abc import Sequence

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores import (
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryResult,
)
from llama_index.core.vector_stores.types import BasePydanticVectorStore

from acre_llama_index.asking import retrieve
from acre_llama_index.candidates import stored_candidates
from acre_llama_index.nodes import SOURCE_KEY, has_text
from acre_llama_index.progress import read_nodes
from acre_rag import ACREEngine, ACREError


class ACREVectorStore(BasePydanticVectorStore):
    """An engine's documents where the framework expects a vector store.

    Put it behind an `ACREIngestionPipeline` with `ACRETransform` as its last transformation. It
    searches by the question's text; embeddings are not looked at. Each node is read as a document
    of its own, under its id: documents are best left whole.

    Args:
        engine: Reads and selects; `None` makes one with the default model and store.
        show_progress: Show what is being read.
    """

    stores_text: bool = True
    is_embedding_query: bool = False
    show_progress: bool = False
    _engine: ACREEngine = PrivateAttr()

    def __init__(self, engine: ACREEngine | None = None, show_progress: bool = False) -> None:
        super().__init__(stores_text=True)
        self.show_progress = show_progress
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
        """Read nodes, each a document of its own; what is stored and unchanged is not read again.

        Raises:
            ACREError: A node cannot be read or stored, or an id comes twice.
        """
        read_nodes(self._engine, nodes, self.show_progress)
        return [node.node_id for node in nodes if has_text(node)]

    async def async_add(self, nodes: Sequence[BaseNode], **_unused: object) -> list[str]:
        """Read nodes in the engine's worker."""
        return await self._engine.worker.run(lambda: self.add(nodes))

    def delete(self, ref_doc_id: str, **_unused: object) -> None:
        """Remove the caches of a document, whole and in parts."""
        for name, whole in self._sources().items():
            if whole == ref_doc_id:
                self._engine.delete(name)

    async def adelete(self, ref_doc_id: str, **_unused: object) -> None:
        """Remove a document's cache in the engine's worker."""
        await self._engine.worker.run(lambda: self.delete(ref_doc_id))

    def delete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **_unused: object,
    ) -> None:
        """Remove the caches of nodes, by id and metadata; neither removes nothing."""
        if node_ids is None and filters is None:
            return
        for name in stored_candidates(self._engine, node_ids, filters).documents or []:
            self._engine.delete(name)

    async def adelete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **_unused: object,
    ) -> None:
        """Remove the caches of nodes in the engine's worker."""
        await self._engine.worker.run(lambda: self.delete_nodes(node_ids, filters))

    def ref_doc_ids(self) -> set[str]:
        """Name the documents that have a cache, whole or in parts."""
        return set(self._sources().values())

    def query(self, query: VectorStoreQuery, **_unused: object) -> VectorStoreQueryResult:
        """Find the best places for a question's text.

        Raises:
            ACREError: The query has no text.
        """
        if query.query_str is None:
            raise ACREError("the query has an embedding alone; expected query_str: give its text")
        nodes, _ = retrieve(
            self._engine,
            query.query_str,
            stored_candidates(self._engine, self._asked(query), query.filters),
            refill_tokens=None,
            sources=query.similarity_top_k,
        )
        return VectorStoreQueryResult(
            nodes=[found.node for found in nodes],
            similarities=[found.score or 0.0 for found in nodes],
            ids=[found.node_id for found in nodes],
        )

    async def aquery(self, query: VectorStoreQuery, **_unused: object) -> VectorStoreQueryResult:
        """Find the best places in the engine's worker."""
        return await self._engine.worker.run(lambda: self.query(query))

    def _asked(self, query: VectorStoreQuery) -> list[str] | None:
        """Name the stored documents that a query is confined to; `None` where it is to none."""
        if query.doc_ids is None and not query.node_ids:
            return None
        return [
            name
            for name, whole in self._sources().items()
            if (query.doc_ids is None or whole in query.doc_ids)
            # A vector index over a store that has the texts names no nodes, and means all.
            and (not query.node_ids or name in query.node_ids)
        ]

    def _sources(self) -> dict[str, str]:
        """Name what each stored document was cut from, or else itself."""
        return {
            one.id: str(one.metadata.get(SOURCE_KEY, one.id))
            for one in self._engine.documents()
            if not one.is_passage
        }
