"""`ACRERetriever`: where a question would look, as scored nodes; nothing is decoded."""

from collections.abc import Callable, Sequence

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.vector_stores import MetadataFilters

from acre_llama_index.asking import retrieve
from acre_llama_index.candidates import Candidates, stored_candidates
from acre_llama_index.events import ACRESelectEvent, dispatcher
from acre_rag import ACREEngine, RefillTokens, Retrieval

_Found = tuple[list[NodeWithScore], Retrieval | None]


class ACRERetriever(BaseRetriever):
    """Finds the places of stored documents that a question would look at, the best first.

    Args:
        engine: Scores and selects; `None` makes one with the default model and store.
        similarity_top_k: Places wanted; `None` gives every run of chosen intervals.
        documents: Ids to look into; `None` looks into all that are stored.
        filters: Conditions on the documents' metadata.
        refill_tokens: Most raw tokens to choose, or `auto`; `None` leaves it to the engine.
        callback_manager: The framework's older instruments.
    """

    def __init__(
        self,
        engine: ACREEngine | None = None,
        similarity_top_k: int | None = None,
        documents: Sequence[str] | None = None,
        filters: MetadataFilters | None = None,
        *,
        refill_tokens: RefillTokens = None,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        self.engine = engine if engine is not None else ACREEngine()
        self.similarity_top_k = similarity_top_k
        self.refill_tokens = refill_tokens
        self._documents = tuple(documents) if documents is not None else None
        self._filters = filters
        super().__init__(callback_manager=callback_manager)

    def candidates(self) -> Candidates:
        """Find the documents to look into, as of now."""
        return stored_candidates(self.engine, self._documents, self._filters)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return _tell(self._find(query_bundle.query_str))

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        question = query_bundle.query_str
        return _tell(await self.engine.worker.run(lambda: self._find(question)))

    def _find(self, question: str) -> _Found:
        return retrieve(
            self.engine,
            question,
            self.candidates(),
            refill_tokens=self.refill_tokens,
            sources=self.similarity_top_k,
        )


class IndexRetriever(ACRERetriever):
    """Looks into the documents that an index has when it is asked."""

    def __init__(
        self,
        engine: ACREEngine,
        find_candidates: Callable[[], Candidates],
        similarity_top_k: int | None,
        *,
        refill_tokens: RefillTokens,
        callback_manager: CallbackManager,
    ) -> None:
        super().__init__(
            engine,
            similarity_top_k,
            refill_tokens=refill_tokens,
            callback_manager=callback_manager,
        )
        self._find_candidates = find_candidates

    def candidates(self) -> Candidates:
        """Find the index's documents, as of now."""
        return self._find_candidates()


def _tell(found: _Found) -> list[NodeWithScore]:
    """Tell the framework's instruments, in the caller's context, and give the nodes."""
    nodes, retrieval = found
    if retrieval is not None:
        seconds = retrieval.seconds.load + retrieval.seconds.select
        dispatcher.event(ACRESelectEvent(landmarks=retrieval.usage.landmarks, seconds=seconds))
    return nodes
