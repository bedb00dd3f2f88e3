"""`ACRERetriever`: where a question would look, as scored documents; nothing is decoded."""

from collections.abc import Sequence
from typing import Annotated, Any

from langchain_core.callbacks import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, Field

from acre_langchain.calls import refuse_settings
from acre_langchain.candidates import MetadataFilter, RefillTokens, Scope, candidates_in_scope
from acre_langchain.documents import source_documents
from acre_rag import ACREEngine, ACREError

_REMEDY = "a call takes k; make a retriever with the others, or use its configurable_fields"


class ACRERetriever(BaseRetriever):
    """Finds the places of stored documents that a question would look at, the best first.

    Each document's metadata names its place: `document_id`, `start_index`, `end_index` (in
    characters) and `score`. Fewer than `k` come where the documents have fewer intervals.

    Attributes:
        engine: Scores and selects.
        k: Places wanted; `retriever.invoke(question, k=2)` wants others for one question.
        documents: Ids to look into; `None` looks into all that are stored.
        filter: Metadata that documents must have, or a function that tells from it.
        refill_tokens: Most raw tokens to choose, or `auto`; `None` leaves it to the engine.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    engine: ACREEngine = Field(exclude=True, repr=False)
    k: Annotated[int, Field(ge=1, strict=True)] = 4
    documents: Sequence[str] | None = None
    filter: MetadataFilter | None = Field(default=None, exclude=True)
    refill_tokens: RefillTokens = None

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002  # the base class passes it
        k: int | None = None,
        **kwargs: Any,  # noqa: ANN401  # what a call may not set
    ) -> list[Document]:
        refuse_settings(kwargs, _REMEDY)
        return self._find(query, k)

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,  # noqa: ARG002
        k: int | None = None,
        **kwargs: Any,  # noqa: ANN401  # what a call may not set
    ) -> list[Document]:
        refuse_settings(kwargs, _REMEDY)
        return await self.engine.worker.run(lambda: self._find(query, k))

    def _find(self, question: str, k: object) -> list[Document]:
        count = self.k if k is None else k
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ACREError(f"k is {count!r}; expected a whole number, 1 or more: pass one")
        scope = Scope(documents=self.documents, filter=self.filter)
        candidates = candidates_in_scope(self.engine, scope)
        if candidates.documents == []:
            return []
        retrieval = self.engine.retrieve(
            question, candidates.documents, self.refill_tokens, sources=count
        )
        return source_documents(retrieval.sources, candidates.metadata)
