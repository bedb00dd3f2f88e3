"""What is stored, as its user knows it."""

from collections.abc import Iterator, Sequence

from acre_rag.answer import StoredDocument
from acre_rag.store.archive import CacheArchive
from acre_rag.store.manifest import Manifest
from acre_rag.store.missing import not_stored
from acre_rag.text.document import Document, content_id

_MOST_REMEMBERED = 2**16


class Listing:
    """Lists the documents of an archive.

    Args:
        archive: Where they are.
    """

    def __init__(self, archive: CacheArchive) -> None:
        self._archive = archive
        # By version, which digests the text too: hashing texts is a fifth of a listing's time.
        self._content_ids: dict[str, str] = {}

    def documents(self, ids: Sequence[str] | None) -> Iterator[StoredDocument]:
        """List the documents: those named that are stored, or all.

        Raises:
            DamagedCacheError: The manifest of one that is named is damaged.
            StoreError: The store cannot be reached or read.
        """
        for manifest in self._archive.manifests() if ids is None else self._named(ids):
            yield StoredDocument(
                id=manifest.document_id,
                version=manifest.version,
                content_id=self._content_id(manifest),
                tokens=manifest.tokens,
                landmarks=manifest.intervals,
                bytes=manifest.payload_bytes,
                metadata=manifest.metadata,
                created=manifest.created,
                method=manifest.method,
            )

    def document(self, document_id: str) -> Document:
        """Give a document back, its text and its metadata.

        Raises:
            DocumentNotFoundError: It is not stored.
            DamagedCacheError: Its manifest is damaged, and with it the text.
        """
        manifest = self._archive.load_manifest(document_id)
        if manifest is None:
            raise not_stored(self._archive, document_id)
        return Document(id=document_id, text=manifest.text, metadata=manifest.metadata)

    def _named(self, ids: Sequence[str]) -> Iterator[Manifest]:
        for document_id in dict.fromkeys(ids):
            manifest = self._archive.load_manifest(document_id)
            if manifest is not None:
                yield manifest

    def _content_id(self, manifest: Manifest) -> str:
        known = self._content_ids.get(manifest.version)
        if known is None:
            if len(self._content_ids) >= _MOST_REMEMBERED:
                self._content_ids.clear()
            known = self._content_ids[manifest.version] = content_id(manifest.text)
        return known
