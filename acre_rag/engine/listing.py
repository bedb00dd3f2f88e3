"""What is stored, as its user knows it."""

from collections.abc import Iterator, Sequence

from acre_rag.answer import StoredDocument
from acre_rag.store.archive import CacheArchive
from acre_rag.store.manifest import Manifest
from acre_rag.store.missing import not_stored
from acre_rag.text.document import Document, content_id


def list_documents(archive: CacheArchive, ids: Sequence[str] | None) -> Iterator[StoredDocument]:
    """List the documents of an archive: those named that are stored, or all.

    Raises:
        DamagedCacheError: The manifest of one that is named is damaged.
        StoreError: The store cannot be reached or read.
    """
    for manifest in archive.manifests() if ids is None else _named(archive, ids):
        yield StoredDocument(
            id=manifest.document_id,
            version=manifest.version,
            content_id=content_id(manifest.text),
            tokens=manifest.tokens,
            landmarks=manifest.intervals,
            bytes=manifest.payload_bytes,
            metadata=manifest.metadata,
            created=manifest.created,
            method=manifest.method,
        )


def stored_document(archive: CacheArchive, document_id: str) -> Document:
    """Give a document back, its text and its metadata.

    Raises:
        DocumentNotFoundError: It is not stored.
        DamagedCacheError: Its manifest is damaged, and with it the text.
    """
    manifest = archive.load_manifest(document_id)
    if manifest is None:
        raise not_stored(archive, document_id)
    return Document(id=document_id, text=manifest.text, metadata=manifest.metadata)


def _named(archive: CacheArchive, ids: Sequence[str]) -> Iterator[Manifest]:
    for document_id in dict.fromkeys(ids):
        manifest = archive.load_manifest(document_id)
        if manifest is not None:
            yield manifest
