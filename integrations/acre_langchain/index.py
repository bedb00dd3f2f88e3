"""`ACREDocumentIndex`: documents in, their caches kept, places found."""

import uuid
from collections.abc import Sequence
from typing import Any

from langchain_core.documents import Document as LangChainDocument
from langchain_core.indexing import UpsertResponse
from langchain_core.indexing.base import DeleteResponse, DocumentIndex

from acre_langchain.calls import refuse_settings
from acre_langchain.retriever import ACRERetriever
from acre_rag import Document

_REMEDY = "leave them out; settings are those of the engine"


class ACREDocumentIndex(ACRERetriever, DocumentIndex):
    """Keeps documents as caches in the engine's store, and finds places in them.

    It is an `ACRERetriever`, with its settings. `langchain_core.indexing.index` fills it, and
    with a record manager reads only what is new. A document is best left whole: each one is read
    by itself, so that parts of a text know nothing of one another.
    """

    def upsert(
        self,
        items: Sequence[LangChainDocument],
        /,
        **kwargs: Any,  # noqa: ANN401  # the base class has it
    ) -> UpsertResponse:
        """Read documents into the store; what is stored already and unchanged is not read again.

        Those without an id are given one. Where an id comes twice the last one counts.

        Raises:
            ACREError: A document is blank, or its metadata is not as JSON would hold it; those
                before it are stored.
        """
        refuse_settings(kwargs, _REMEDY)
        named = {item.id or str(uuid.uuid4()): item for item in items}
        documents = (
            Document(id=name, text=item.page_content, metadata=item.metadata)
            for name, item in named.items()
        )
        done = self.engine.ingest(documents)
        return UpsertResponse(succeeded=[one.id for one in done], failed=[])

    async def aupsert(
        self,
        items: Sequence[LangChainDocument],
        /,
        **kwargs: Any,  # noqa: ANN401  # the base class has it
    ) -> UpsertResponse:
        """Read documents in the engine's worker, as `upsert` does."""
        return await self.engine.worker.run(lambda: self.upsert(items, **kwargs))

    def delete(
        self,
        ids: list[str] | None = None,
        **kwargs: Any,  # noqa: ANN401  # the base class has it
    ) -> DeleteResponse:
        """Remove documents with their caches; one that is not there is no failure.

        Raises:
            ValueError: No list of ids is given.
        """
        refuse_settings(kwargs, _REMEDY)
        if ids is None:
            raise ValueError(
                "ids is None; expected a list: name the documents to delete, all of them if need be"
            )
        gone = [name for name in ids if self.engine.delete(name)]
        return DeleteResponse(num_deleted=len(gone), succeeded=gone, num_failed=0, failed=[])

    async def adelete(
        self,
        ids: list[str] | None = None,
        **kwargs: Any,  # noqa: ANN401  # the base class has it
    ) -> DeleteResponse:
        """Remove documents in the engine's worker, as `delete` does."""
        return await self.engine.worker.run(lambda: self.delete(ids, **kwargs))

    def get(
        self,
        ids: Sequence[str],
        /,
        **kwargs: Any,  # noqa: ANN401  # the base class has it
    ) -> list[LangChainDocument]:
        """Give documents back whole, as they were given; those that are not stored are left out."""
        refuse_settings(kwargs, _REMEDY)
        stored = [self.engine.document(one.id) for one in self.engine.documents(ids)]
        return [
            LangChainDocument(id=one.id, page_content=one.text, metadata=dict(one.metadata))
            for one in stored
        ]

    async def aget(
        self,
        ids: Sequence[str],
        /,
        **kwargs: Any,  # noqa: ANN401  # the base class has it
    ) -> list[LangChainDocument]:
        """Give documents back from the engine's worker, as `get` does."""
        return await self.engine.worker.run(lambda: self.get(ids, **kwargs))
