"""What a store holds, counted; and all of it read and verified."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from acre_rag.errors import DamagedCacheError
from acre_rag.store.archive import CacheArchive
from acre_rag.store.manifest import Manifest
from acre_rag.store.protocol import CacheStore

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One document, every value of which was read.

    Attributes:
        document: Its id; a digest of the id where the manifest is damaged.
        space: Its space.
        values: Values that were read, the manifest included.
        bytes: Bytes that were read.
        damages: What is wrong with it, value by value; empty where nothing is.
    """

    document: str
    space: str
    values: int
    bytes: int
    damages: tuple[DamagedCacheError, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """What one model has left in one space of a store.

    Attributes:
        space: The space.
        model: Name of the model.
        method: `landmarks` or `training-free`.
        dtype: What keys and values are stored in.
        documents: Published documents.
        tokens: Raw tokens of them.
        bytes: Bytes of their values and manifests, headers of values left out.
    """

    space: str
    model: str
    method: str
    dtype: str
    documents: int = 0
    tokens: int = 0
    bytes: int = 0


def check_documents(store: CacheStore, on_progress: Progress | None = None) -> Iterator[Checked]:
    """Read every value of every document, and say what is wrong with each.

    A document that is replaced or deleted meanwhile is read as it then is.

    Args:
        store: What to check; it is only read.
        on_progress: Called with document id, values done, values in all.

    Raises:
        StoreError: The store cannot be reached or read.
    """
    for space in store.spaces():
        for digest, data in store.manifests(space):
            checked = _check(store, space, digest, data, on_progress)
            if checked is not None:
                yield checked


def holdings(store: CacheStore) -> list[Holdings]:
    """Count what every model has stored, from manifests alone; damaged ones are logged.

    Raises:
        StoreError: The store cannot be reached or read.
    """
    found: dict[tuple[str, ...], Holdings] = {}
    for space in store.spaces():
        for manifest in CacheArchive(store, space).manifests():
            key = (space, manifest.model, manifest.method, manifest.dtype)
            so_far = found.get(key) or Holdings(
                space=space, model=manifest.model, method=manifest.method, dtype=manifest.dtype
            )
            found[key] = replace(
                so_far,
                documents=so_far.documents + 1,
                tokens=so_far.tokens + manifest.tokens,
                bytes=so_far.bytes + manifest.payload_bytes + len(manifest.encode()),
            )
    return list(found.values())


def _check(
    store: CacheStore, space: str, digest: str, data: bytes, on_progress: Progress | None
) -> Checked | None:
    """Read one document; `None` if it was deleted meanwhile."""
    try:
        manifest = Manifest.decode_listed(data, space=space, digest=digest)
    except DamagedCacheError as error:
        return Checked(document=digest, space=space, values=1, bytes=len(data), damages=(error,))
    archive = CacheArchive(store, space)
    names = manifest.block_names
    damages = []
    for number, name in enumerate(names, 1):
        try:
            archive.read_block(manifest, name)
        except DamagedCacheError as error:
            damages.append(error)
        if on_progress is not None:
            on_progress(manifest.document_id, number, len(names))
    if damages:
        # Values of a version that was replaced meanwhile are missing, not damaged.
        current = store.load_manifest(space, manifest.document_id)
        if current != data:
            return None if current is None else _check(store, space, digest, current, on_progress)
    return Checked(
        document=manifest.document_id,
        space=space,
        values=1 + len(names),
        bytes=len(data) + archive.bytes_read,
        damages=tuple(damages),
    )
