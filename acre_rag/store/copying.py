"""From one store into another: what is complete, byte for byte, every value verified on the way."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from acre_rag.errors import DamagedCacheError
from acre_rag.store.archive import open_block, whole_blocks
from acre_rag.store.key_mark import refuse_encrypted, refuse_encrypted_documents
from acre_rag.store.manifest import Manifest
from acre_rag.store.protocol import CacheStore, DocumentWriter

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What became of one document.

    Attributes:
        document: Its id; a digest of the id where the manifest is damaged.
        space: Its space.
        outcome: `copied`; `present`, where the target had all of it; `damaged`, and left out.
        bytes: Bytes of values that were written.
        damage: What is wrong with it; `None` where nothing is.
    """

    document: str
    space: str
    outcome: Literal["copied", "present", "damaged"]
    bytes: int = 0
    damage: DamagedCacheError | None = None


def copy_documents(
    source: CacheStore, target: CacheStore, on_progress: Progress | None = None
) -> Iterator[Copied]:
    """Copy the documents of a store one by one, and say what became of each.

    A document that the target has in another version is replaced. A run that follows one that
    was interrupted passes over whole documents, and compares the values of a part of one.

    Args:
        source: Where to copy from; it is only read.
        target: Where to copy to.
        on_progress: Called with document id, values done, values in all.

    Raises:
        StoreError: A store cannot be reached, or the target cannot be written, or is encrypted and
            was opened without its key.
    """
    refuse_encrypted(target)
    refuse_encrypted_documents(target)
    copier = _Copier(source, target, on_progress or _ignore)
    for space in source.spaces():
        for digest, data in source.manifests(space):
            copied = copier.copy(space, digest, data)
            if copied is not None:
                yield copied


@dataclass(frozen=True, slots=True)
class _Copier:
    """Copies documents between two stores."""

    source: CacheStore
    target: CacheStore
    on_progress: Progress

    def copy(self, space: str, digest: str, data: bytes) -> Copied | None:
        """Copy one document; `None` if it was deleted meanwhile."""
        name = digest
        try:
            manifest = Manifest.decode_listed(data, space=space, digest=digest)
            name = manifest.document_id
            written = self._transfer(manifest, data)
        except DamagedCacheError as error:
            if name != digest:
                # Values of a version that was replaced meanwhile are missing, not damaged.
                current = self.source.load_manifest(space, name)
                if current != data:
                    return None if current is None else self.copy(space, digest, current)
            return Copied(document=name, space=space, outcome="damaged", damage=error)
        if written is None:
            return Copied(document=name, space=space, outcome="present")
        return Copied(document=name, space=space, outcome="copied", bytes=written)

    def _transfer(self, manifest: Manifest, data: bytes) -> int | None:
        """Copy values, then the manifest; how many bytes? `None` if all of it was there.

        Raises:
            DamagedCacheError: A value of the source is damaged: nothing was published.
        """
        place = (manifest.space, manifest.document_id, manifest.version)
        names = manifest.block_names
        written = 0
        with self.target.writer(*place) as writer:
            present = whole_blocks(manifest, writer.staged())
            published = self.target.load_manifest(manifest.space, manifest.document_id)
            if published == data and present.issuperset(names):
                return None
            for number, name in enumerate(names, 1):
                value = self.source.read(*place, name)
                open_block(value, manifest, name)
                if name not in present or not _holds(writer, name, value):
                    writer.write(name, [value])
                    written += value.nbytes
                self.on_progress(manifest.document_id, number, len(names))
            writer.publish(data)
        return written


def _holds(writer: DocumentWriter, name: str, value: memoryview) -> bool:
    try:
        return writer.read(name) == value
    except DamagedCacheError:
        return False


def _ignore(_document: str, _done: int, _total: int) -> None:
    """Show no progress."""
