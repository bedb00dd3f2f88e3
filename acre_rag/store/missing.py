"""What to say of documents that are not there: where they may be instead, and what to do."""

from itertools import islice

from acre_rag.errors import DocumentNotFoundError
from acre_rag.store.archive import CacheArchive


def not_stored(archive: CacheArchive, document_id: str) -> DocumentNotFoundError:
    """Say of one document that an archive does not hold it."""
    store = archive.store
    elsewhere = [space for space in store.spaces() if space != archive.space]
    if any(store.load_manifest(space, document_id) is not None for space in elsewhere):
        return DocumentNotFoundError(
            f"document {document_id!r} is not stored for this model and these settings, but "
            "for others: it was read with another model, adapter or settings (acre inspect tells "
            "which), or by another version of acre_rag; expected those of now: ingest it again, "
            "or ask with what read it"
        )
    return DocumentNotFoundError(
        f"document {document_id!r} is not stored for this model and these settings; expected "
        "one that was ingested with them: ingest it first, or check its id"
    )


def nothing_stored(archive: CacheArchive, model_name: str) -> DocumentNotFoundError:
    """Say of an archive that it holds no document for a model.

    Raises:
        DamagedCacheError: It holds one, whose manifest is damaged.
    """
    store = archive.store
    # What is there may be damaged: that is the error to show.
    if list(archive.manifests(strict=True)):
        return DocumentNotFoundError(
            f"{store.url} holds passages that retrievers gave, and no documents; expected one or "
            "more: ingest some first, or name the passages' ids"
        )
    others = [space for space in store.spaces() if space != archive.space]
    if others:
        archives = [CacheArchive(store, space) for space in others]
        found = {m.model for other in archives for m in islice(other.manifests(), 1)}
        makers = ", ".join(sorted(found)) or "a model that their damaged manifests do not tell"
        return DocumentNotFoundError(
            f"{store.url} holds documents read by {makers} with other "
            f"weights or settings, none for {model_name}; expected caches made with this model, "
            "adapter and settings: ingest the documents with them, or name the model, adapter, "
            "--stored and --window-tokens that they were ingested with"
        )
    return empty_store(store.url)


def empty_store(url: str) -> DocumentNotFoundError:
    """Say of a store that no model has read any document into it."""
    return DocumentNotFoundError(
        f"{url} holds no documents; expected one or more: ingest some first, or check the place"
    )
