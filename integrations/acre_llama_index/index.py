"""`ACREIndex`: an index whose documents are kept as caches."""

from collections.abc import Sequence
from typing import Any

from llama_index.core import Document as LlamaDocument
from llama_index.core.callbacks import CallbackManager
from llama_index.core.chat_engine.types import BaseChatEngine, ChatMode
from llama_index.core.indices.base import BaseIndex
from llama_index.core.indices.registry import INDEX_STRUCT_TYPE_TO_INDEX_CLASS
from llama_index.core.ingestion import arun_transformations, run_transformations
from llama_index.core.llms import LLM
from llama_index.core.llms.utils import LLMType, resolve_llm
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import BaseNode, TransformComponent
from llama_index.core.storage.docstore.types import RefDocInfo
from llama_index.core.storage.storage_context import StorageContext
from llama_index.core.vector_stores import MetadataFilters

from acre_llama_index.candidates import Candidates
from acre_llama_index.chat import condensing_chat, text_chat
from acre_llama_index.index_struct import STRUCT_TYPE, ACREIndexStruct
from acre_llama_index.llm import ACRELLM
from acre_llama_index.own_documents import OwnDocuments
from acre_llama_index.progress import read_nodes
from acre_llama_index.query_engine import ACREQueryEngine
from acre_llama_index.retriever import ACRERetriever, IndexRetriever
from acre_llama_index.whole_documents import WholeDocuments
from acre_rag import ACREEngine, ACREError, RefillTokens


class ACREIndex(BaseIndex[ACREIndexStruct]):
    """Documents that are read once, kept as caches, and asked often.

    A document is read whole unless transformations split it. An index asks its own documents
    alone, whatever else the engine's store holds; one that is gone from there is read again
    from the document store.

    Args:
        nodes: Nodes to read.
        engine: Reads and answers; `None` makes one with the default model and store.
        index_struct: What an index kept of itself, when it is loaded.
        storage_context: Where the framework keeps texts and indexes.
        transformations: Applied to documents before they are read; `None` reads them whole.
        callback_manager: The framework's older instruments.
        show_progress: Show which document is being read, and how many of its tokens have been.
    """

    index_struct_cls = ACREIndexStruct

    def __init__(  # the arguments of the base class, and the engine
        self,
        nodes: Sequence[BaseNode] | None = None,
        engine: ACREEngine | None = None,
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
        steps = transformations or [WholeDocuments()]
        index = cls(
            run_transformations(documents, steps, show_progress=show_progress),
            engine,
            storage_context=storage_context,
            transformations=steps,
            callback_manager=callback_manager,
            show_progress=show_progress,
        )
        # Not before: what a document store remembers is never handed over again.
        for document in documents:
            index.docstore.set_document_hash(document.id_, document.hash)
        return index

    @property
    def ref_doc_info(self) -> dict[str, RefDocInfo]:
        """Documents of this index, each with its nodes."""
        own = self._index_struct.contents.keys()
        infos = self.docstore.get_all_ref_doc_info() or {}
        return {name: info for name, info in infos.items() if not own.isdisjoint(info.node_ids)}

    def as_retriever(  # type: ignore[override]  # names what the base calls **kwargs
        self,
        similarity_top_k: int | None = None,
        filters: MetadataFilters | None = None,
        *,
        doc_ids: Sequence[str] | None = None,
        refill_tokens: RefillTokens = None,
    ) -> ACRERetriever:
        """Find places in this index's documents; see `ACRERetriever`."""
        return IndexRetriever(
            self.engine,
            lambda: self._candidates(doc_ids, filters),
            similarity_top_k,
            refill_tokens=refill_tokens,
            callback_manager=self._callback_manager,
        )

    def as_query_engine(  # type: ignore[override]  # noqa: PLR0913  # names the base's **kwargs
        self,
        llm: LLM | None = None,
        *,
        streaming: bool = False,
        similarity_top_k: int | None = None,
        filters: MetadataFilters | None = None,
        doc_ids: Sequence[str] | None = None,
        refill_tokens: RefillTokens = None,
        max_new_tokens: int = 64,
        instructions: str | None = None,
        node_postprocessors: list[BaseNodePostprocessor] | None = None,
    ) -> ACREQueryEngine:
        """Ask this index's documents; see `ACREQueryEngine`.

        With `similarity_top_k`, the documents of that many best places are asked.

        Raises:
            ACREError: Another LLM is given: the engine's own model answers.
        """
        if llm is not None and not (isinstance(llm, ACRELLM) and llm.engine is self.engine):
            of = " of another engine" if isinstance(llm, ACRELLM) else ""
            raise ACREError(
                f"llm is a {type(llm).__name__}{of}; expected none, for a refilled cache is read "
                "by the model that made it: leave llm out, or put that LLM behind as_retriever()"
            )
        return ACREQueryEngine(
            self.engine,
            self.as_retriever(
                similarity_top_k, filters, doc_ids=doc_ids, refill_tokens=refill_tokens
            ),
            streaming,
            refill_tokens=refill_tokens,
            max_new_tokens=max_new_tokens,
            instructions=instructions,
            node_postprocessors=node_postprocessors,
            callback_manager=self._callback_manager,
        )

    def as_chat_engine(
        self,
        chat_mode: ChatMode = ChatMode.CONDENSE_QUESTION,
        llm: LLMType | None = None,
        **kwargs: Any,  # noqa: ANN401  # handed on to the framework's chat engine
    ) -> BaseChatEngine:
        """Chat over this index's documents.

        The conversation is condensed into one question, which is asked as any other; `best` does
        so too. The other modes put text into the prompt, and use no cache.

        Args:
            chat_mode: One of the framework's modes.
            llm: Condenses questions, or answers in the other modes; `None` takes the engine's
                own model. An answer from a cache is always the engine's.
            **kwargs: What `as_query_engine` takes, and what the framework's chat engine takes.

        Raises:
            ACREError: There is no such mode, or it does not have an option.
        """
        model = resolve_llm(llm) if llm is not None else None
        if chat_mode in (ChatMode.CONDENSE_QUESTION, ChatMode.BEST):
            return condensing_chat(self, model, kwargs)
        return text_chat(self, chat_mode, model, kwargs)

    def build_index_from_nodes(
        self, nodes: Sequence[BaseNode], **build_kwargs: object
    ) -> ACREIndexStruct:
        """Read nodes first, so that what cannot be read is not in the index."""
        self._read(nodes)
        return super().build_index_from_nodes(nodes, **build_kwargs)

    def insert_nodes(self, nodes: Sequence[BaseNode], **insert_kwargs: object) -> None:
        """Read nodes, then take them into the index."""
        self._read(nodes)
        super().insert_nodes(nodes, **insert_kwargs)

    async def ainsert_nodes(self, nodes: Sequence[BaseNode], **insert_kwargs: object) -> None:
        """Read nodes in the engine's worker, then take them into the index."""
        await self._aread(nodes)
        await super().ainsert_nodes(nodes, **insert_kwargs)

    async def adelete_nodes(
        self, node_ids: list[str], delete_from_docstore: bool = False, **delete_kwargs: object
    ) -> None:
        """Delete nodes' caches in the engine's worker, then take them out of the index."""

        def drop() -> None:
            for name in node_ids:
                self._own.drop(name)  # the base class does so again, and then needs no store

        await self.engine.worker.run(drop)
        await super().adelete_nodes(node_ids, delete_from_docstore, **delete_kwargs)

    def update_ref_doc(self, document: LlamaDocument, **_unused: object) -> None:
        """Replace a document; its old cache stays until the new one is complete."""
        stale = self._nodes_of(document.id_)
        nodes = run_transformations([document], self._transformations)
        self._read(nodes)
        self.docstore.delete_ref_doc(document.id_, raise_error=False)
        super().insert_nodes(nodes)
        self.docstore.set_document_hash(document.id_, document.hash)
        self.delete_nodes(sorted(stale - {node.node_id for node in nodes}))

    async def aupdate_ref_doc(self, document: LlamaDocument, **_unused: object) -> None:
        """Replace a document as `update_ref_doc` does, reading in the engine's worker."""
        before = await self.docstore.aget_ref_doc_info(document.id_)
        stale = set(before.node_ids) if before is not None else set()
        nodes = await arun_transformations([document], self._transformations)
        await self._aread(nodes)
        await self.docstore.adelete_ref_doc(document.id_, raise_error=False)
        await super().ainsert_nodes(nodes)
        await self.docstore.aset_document_hash(document.id_, document.hash)
        await self.adelete_nodes(sorted(stale - {node.node_id for node in nodes}))

    def _read(self, nodes: Sequence[BaseNode]) -> None:
        read_nodes(self.engine, nodes, self._show_progress)

    async def _aread(self, nodes: Sequence[BaseNode]) -> None:
        def read_and_insert() -> None:
            self._read(nodes)
            self._insert(nodes)  # the base class does so again, and then needs no store

        await self.engine.worker.run(read_and_insert)

    @property
    def _own(self) -> OwnDocuments:
        return OwnDocuments(self.engine, self._index_struct.contents, self._find_node)

    def _build_index_from_nodes(
        self, nodes: Sequence[BaseNode], **_unused: object
    ) -> ACREIndexStruct:
        self._index_struct = ACREIndexStruct()
        self._insert(nodes)
        return self._index_struct

    def _insert(self, nodes: Sequence[BaseNode], **_unused: object) -> None:
        for node in nodes:
            self._own.keep(node)

    def _delete_node(self, node_id: str, **_unused: object) -> None:
        self._own.drop(node_id)

    def _candidates(
        self, doc_ids: Sequence[str] | None, filters: MetadataFilters | None
    ) -> Candidates:
        """Find this index's documents, as of now; those whose cache is gone are read again."""
        node_ids = list(self._index_struct.contents)
        if doc_ids is not None:
            wanted = set[str]().union(*map(self._nodes_of, doc_ids))
            node_ids = [name for name in node_ids if name in wanted]
        return self._own.candidates(node_ids, filters)

    def _nodes_of(self, ref_doc_id: str) -> set[str]:
        info = self.docstore.get_ref_doc_info(ref_doc_id)
        return set(info.node_ids) if info is not None else set()

    def _find_node(self, node_id: str) -> BaseNode | None:
        return self.docstore.get_document(node_id, raise_error=False)


INDEX_STRUCT_TYPE_TO_INDEX_CLASS[STRUCT_TYPE] = ACREIndex  # type: ignore[index]  # keyed by its own kinds
