"""What an engine does with documents: it reads them into a store, lists them, gives them back."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from os import PathLike
from typing import TYPE_CHECKING

from acre_rag.answer import Ingested, StoredDocument
from acre_rag.config import ACREConfig
from acre_rag.engine.adapter import choose_adapter
from acre_rag.engine.ingest import Ingestion
from acre_rag.engine.listing import Listing
from acre_rag.engine.recall import Recall
from acre_rag.model.landmarks import LandmarkAdapter
from acre_rag.model.local import LocalModel
from acre_rag.model.reader import DocumentReader
from acre_rag.request import checked_documents
from acre_rag.store.archive import CacheArchive
from acre_rag.store.location import open_store
from acre_rag.store.protocol import CacheStore
from acre_rag.text.document import Document

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11 on


class DocumentKeeper:
    """Reads documents into a store and keeps them there, for an engine that answers questions.

    Args:
        model: As `ACREEngine` takes it, and so the others.
        adapter: Landmark adapter.
        store: Keeps the caches.
        config: Settings.

    Raises:
        ACREError: As `ACREEngine` raises it.
    """

    def __init__(
        self,
        model: str | PathLike[str] | LocalModel | None = None,
        adapter: str | PathLike[str] | LandmarkAdapter | None = None,
        store: str | PathLike[str] | CacheStore | None = None,
        config: ACREConfig | None = None,
    ) -> None:
        self.config = config or ACREConfig()
        self._owns_store = store is None or isinstance(store, (str, PathLike))
        # A wrong location is cheaper to find out than a wrong model.
        opened = open_store(store) if self._owns_store else store  # type: ignore[arg-type]
        self.store: CacheStore = opened  # type: ignore[assignment]
        local = model if isinstance(model, LocalModel) else LocalModel.load(model)
        chosen = choose_adapter(adapter, local.name, self.config.interval_tokens)
        self.reader = DocumentReader(local, chosen, self.config)
        archive = CacheArchive(self.store, self.reader.identity.space)
        self._archive = archive
        self._listing = Listing(archive)
        self._ingestion = Ingestion(self.reader, archive)
        self._recall = Recall(self.reader, archive, self._ingestion)

    def ingest(
        self,
        documents: Iterable[Document] | Document,
        on_progress: Callable[[str, int, int], None] | None = None,
        *,
        check: bool = False,
    ) -> list[Ingested]:
        """Read documents into the store; what is stored already and unchanged is not read again.

        A document's old cache stays until the new one is complete. An interrupted run is picked
        up where it stopped, within a day. Stored values that are missing, or not of the size that
        they should have, are noticed and made anew.

        Args:
            documents: One, or several; read one by one, so that a generator may give them.
            on_progress: Called with document id, tokens read, tokens in all.
            check: Read every stored value and compare its checksum too; what was changed in
                place is then made anew.

        Raises:
            DocumentError: One is no `Document`, gives no tokens, or has the id of another.
            ConfigError: Keys or values are too large for the stored dtype.
            StoreError: The store cannot be written.
        """
        given = checked_documents(documents)
        return [self._ingestion.ingest(document, on_progress, check=check) for document in given]

    def document(self, document_id: str) -> Document:
        """Give a stored document back, its text and its metadata.

        Raises:
            DocumentNotFoundError: It is not stored.
        """
        return self._listing.document(document_id)

    def delete(self, document_id: str) -> bool:
        """Remove a document from the store; was it there?"""
        try:
            return self._archive.delete(document_id)
        finally:  # behind the deletion: a question meanwhile may have remembered it anew
            self._recall.forget(document_id)

    def documents(self, ids: Sequence[str] | None = None) -> Iterator[StoredDocument]:
        """List what is stored for this model and these settings.

        Args:
            ids: Documents to look up, those that are not stored being left out; `None` lists all.
        """
        return self._listing.documents([ids] if isinstance(ids, str) else ids)

    def close(self) -> None:
        """Close the store, if the engine has opened it."""
        if self._owns_store:
            self.store.close()

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
