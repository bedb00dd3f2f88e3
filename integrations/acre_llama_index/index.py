"""`ACREIndex`: an index whose documents are kept as caches."""

from collections.abc import Sequence
from typing import Any

from llama_index.core import Document as LlamaDocument
from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.callbacks import CallbackManager
from llama_index.core.chat_engine import CondenseQuestionChatEngine
from llama_index.core.chat_engine.types import BaseChatEngine, ChatMode
from llama_index.core.indices.base import BaseIndex
from llama_index.core.indices.registry import INDEX_STRUCT_TYPE_TO_INDEX_CLASS
from llama_index.core.llms import LLM
from llama_index.core.schema import BaseNode, IndexNode, TransformComponent
from llama_index.core.storage.docstore.types import RefDocInfo
from llama_index.core.storage.storage_context import StorageContext
from llama_index.core.utils import get_tqdm_iterable
from llama_index.core.vector_stores import MetadataFilters

from acre_llama_index.candidates import Scope, as_document, has_text
from acre_llama_index.index_struct import STRUCT_TYPE, ACREIndexStruct
from acre_llama_index.llm import ACRELLM
from acre_llama_index.query_engine import ACREQueryEngine
from acre_llama_index.retriever import ACRERetriever
from acre_llama_index.whole_documents import WholeDocuments
from acre_llama_index.worker import worker_of
from acre_rag import ACREEngine, ACREError

class ACREIndex(BaseIndex[ACREIndexStruct]):
    """Documents that are read once, kept as caches, and asked often.

    A document is read whole unless transformations split it. An index asks its own documents
    alone, whatever else the engine's store holds; one that is gone from there is read again
    from the document store.

    Args:
        nodes: Nodes to read.
        engine: Reads and answers; `None` makes one with the default model and store.
        objects: Nodes that stand for other retrievers or engines.
        index_struct: What an index kept of itself, when it is loaded.
        storage_context: Where the framework keeps texts and indexes.
        transformations: Applied to documents before they are read; `None` reads them whole.
        callback_manager: The framework's older instruments.
        show_progress: Show which document is being read.
    """

    index_struct_cls = ACREIndexStruct

    def __init__(  # noqa: PLR0913  # the arguments of the base class, and the engine
        self,
        nodes: Sequence[BaseNode] | None = None,
        engine: ACREEngine | None = None,
        objects: Sequence[IndexNode] | None = None,
        index_struct: ACREIndexStruct | None = None,
        storage_context: StorageContext | None = None,
        transformations: list[TransformComponent] | None = None,
        callback_manager: CallbackManager | None = None,
        show_progress: bool = False,
    ) -> None:
        self.engine = engine if engine is not None else ACREEngine()
        self._show_progress = show_progress
        super().__init__(
            nodes=nodes,
            objects=objects,
            index_struct=index_struct,
            storage_context=storage_context,
            callback_manager=callback_manager,
            transformations=transformations or [WholeDocuments()],
            show_progress=show_progress,
        )

    @classmethod
    def from_documents(  # type: ignore[override]  # the engine is one of the base's **kwargs
        cls,
        documents: Sequence[LlamaDocument],
        storage_context: StorageContext | None = None,
        show_progress: bool = False,
        callback_manager: CallbackManager | None = None,
        transformations: list[TransformComponent] | None = None,
        *,
        engine: ACREEngine | None = None,
    ) -> "ACREIndex":
        """Read documents, and make an index of them.

        Raises:
            ACREError: An id comes twice, or a document cannot be read or stored.
        """
        return super().from_documents(
            documents,
            storage_context=storage_context,
            show_progress=show_progress,
            callback_manager=callback_manager,
            transformations=transformations or [WholeDocuments()],
            engine=engine,
        )

    @property
    def ref_doc_info(self) -> dict[str, RefDocInfo]:
        """Documents of this index, each with its nodes."""
        names = {self._ref_doc_id(node_id): None for node_id in self._index_struct.node_ids}
        infos = {name: self.docstore.get_ref_doc_info(name) for name in names}
        return {name: info for name, info in infos.items() if info is not None}

    def scope(
        self, doc_ids: Sequence[str] | None = None, filters: MetadataFilters | None = None
    ) -> Scope:
        """Choose among this index's own documents, as of now.

        Args:
            doc_ids: Those to ask; `None` asks all.
            filters: Conditions on their metadata.
        """
        node_ids = self._index_struct.node_ids
        if doc_ids is not None:
            node_ids = [name for name in node_ids if self._ref_doc_id(name) in set(doc_ids)]
        return Scope(documents=tuple(node_ids), filters=filters, find_node=self._find_node)

    def as_retriever(  # type: ignore[override]  # names what the base calls **kwargs
        self,
        similarity_top_k: int | None = None,
        filters: MetadataFilters | None = None,
        *,
        doc_ids: Sequence[str] | None = None,
        refill_tokens: int | None = None,
    ) -> ACRERetriever:
        """Find places in this index's documents; see `ACRERetriever`."""
        return ACRERetriever(
            self.engine,
            similarity_top_k,
            scope=lambda: self.scope(doc_ids, filters),
            refill_tokens=refill_tokens,
            callback_manager=self._callback_manager,
        )

    def as_query_engine(  # type: ignore[override]  # names what the base calls **kwargs
        self,
        llm: LLM | None = None,
        settings: QuerySettings | None = None,
    ) -> ACREQueryEngine:
        ...
