"""The framework's ingestion pipeline over an engine: upserts and deletions reach the caches."""

from collections.abc import Sequence

from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.schema import BaseNode

from acre_llama_index.vector_store import ACREVectorStore
from acre_llama_index.whole_documents import WholeDocuments


class ACRETransform(WholeDocuments):
    """Makes nodes ready for `ACREVectorStore`, which looks at their text alone.

    The pipeline hands over only nodes that have an embedding: this gives each the same. No cache
    is written here, so that the pipeline may skip this step whenever it remembers it.
    """

    @classmethod
    def class_name(cls) -> str:
        """Name the class as the framework's serialization wants it."""
        return "ACRETransform"

    def __call__(self, nodes: Sequence[BaseNode], **_unused: object) -> list[BaseNode]:
        """Copy nodes, each a document of its own, with an embedding."""
        return [node.model_copy(update={"embedding": [1.0]}) for node in super().__call__(nodes)]


class ACREIngestionPipeline(IngestionPipeline):
    """The framework's pipeline, whose document store forgets what the caches have lost.

    A document store remembers what was read, and skips it for ever after. Where an engine's store
    was emptied, or another model reads now, that would leave documents without a cache.
    """

    def _handle_duplicates(
        self, nodes: Sequence[BaseNode], **settings: object
    ) -> Sequence[BaseNode]:
        self._forget_lost(nodes)
        return super()._handle_duplicates(nodes, **settings)

    def _handle_upserts(self, nodes: Sequence[BaseNode], **settings: object) -> Sequence[BaseNode]:
        self._forget_lost(nodes)
        return super()._handle_upserts(nodes, **settings)

    async def _ahandle_duplicates(
        self, nodes: Sequence[BaseNode], store_doc_text: bool = True
    ) -> Sequence[BaseNode]:
        await self._aforget_lost(nodes)
        return await super()._ahandle_duplicates(nodes, store_doc_text)

    async def _ahandle_upserts(
        self, nodes: Sequence[BaseNode], store_doc_text: bool = True
    ) -> Sequence[BaseNode]:
        await self._aforget_lost(nodes)
        return await super()._ahandle_upserts(nodes, store_doc_text)

    def _forget_lost(self, inputs: Sequence[BaseNode]) -> None:
        """Make the document store forget what has no cache, before it is asked what it knows."""
        if self.docstore is not None and isinstance(self.vector_store, ACREVectorStore):
            cached = self.vector_store.ref_doc_ids()
            for name in {node.ref_doc_id or node.node_id for node in inputs} - cached:
                self.docstore.delete_document(name, raise_error=False)

    async def _aforget_lost(self, inputs: Sequence[BaseNode]) -> None:
        if isinstance(self.vector_store, ACREVectorStore):
            await self.vector_store.client.worker.run(lambda: self._forget_lost(inputs))
