"""A store of blocks and manifests: the one door of the engine to the bytes."""

import logging
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial

from acre_rag.cache import StoredBlock
from acre_rag.errors import DamagedCacheError
from acre_rag.store.address import check_hex
from acre_rag.store.codec import KnownBlocks, encode_block, encoded_bytes, known_blocks
from acre_rag.store.damage import or_damage
from acre_rag.store.frame import Label
from acre_rag.store.key_mark import refuse_encrypted, refuse_encrypted_documents
from acre_rag.store.manifest import Manifest
from acre_rag.store.protocol import CacheStore, DocumentWriter

_logger = logging.getLogger(__name__)


class ArchiveWriter:
    """Writes the blocks of one version of one document, then its manifest."""

    def __init__(
        self, writer: DocumentWriter, *, space: str, document_id: str, version: str
    ) -> None:
        self._writer = writer
        self._space = space
        self._document_id = document_id
        self._version = version

    def whole_blocks(self, manifest: Manifest) -> frozenset[str]:
        """Name the blocks of a manifest-to-be that are there in the size that they must have.

        Sizes cost no reading. What a block holds is known only once it is read.
        """
        self._check_ours(manifest)
        return whole_blocks(manifest, self._writer.staged())

    def read_block(self, manifest: Manifest, name: str) -> StoredBlock:
        """Read back a block of this version, which its manifest-to-be names.

        Raises:
            ValueError: The manifest names no such block, or is of another version.
            DamagedCacheError: The block is missing or damaged: write it again.
            StoreError: The store cannot be reached or read.
        """
        self._check_ours(manifest)
        manifest.block_shape(name)  # refuses a name that the manifest lacks
        return open_block(self._writer.read(name), manifest, name)

    def write_block(self, name: str, block: StoredBlock) -> None:
        """Stage a block, in place of one of that name.

        Raises:
            ValueError: The block is empty, or of a dtype that is not stored.
            StoreError: The store is full, read-only, or cannot be reached.
        """
        runs = encode_block(
            block,
            space=self._space,
            document_id=self._document_id,
            version=self._version,
            name=name,
        )
        self._writer.write(name, runs)

    def publish(self, manifest: Manifest) -> None:
        """Show this version to readers in one step, in place of what was there.

        Raises:
            ValueError: The manifest is of another document or version.
            DamagedCacheError: A block that the manifest names was not written.
            StoreError: The store is full, read-only, or cannot be reached.
        """
        self._check_ours(manifest)
        missing = set(manifest.block_names) - self.whole_blocks(manifest)
        if missing:
            raise Label(self._document_id, min(missing)).damage(
                "missing",
                found=f"{len(missing)} of {len(manifest.block_names)} blocks missing or cut short",
                expected="all of them to be written",
            )
        self._writer.publish(manifest.encode())

    def _check_ours(self, manifest: Manifest) -> None:
        ours = (self._space, self._document_id, self._version)
        theirs = (manifest.space, manifest.document_id, manifest.version)
        if ours != theirs:
            raise ValueError(f"the manifest is of {theirs}; expected {ours}: open its own writer")


class CacheArchive:
    """The documents of one space of a store, as blocks and manifests.

    Any number of threads may use one archive. It is cheap: make one for each question to learn
    what that question read.
    """

    def __init__(self, store: CacheStore, space: str) -> None:
        check_hex("space", space)
        self.store = store
        self.space = space
        self._lock = threading.Lock()
        self._bytes_read = 0
        self._known_plain = False

    @property
    def bytes_read(self) -> int:
        """Bytes of blocks, headers included, that this archive has read."""
        return self._bytes_read

    def load_manifest(self, document_id: str) -> Manifest | None:
        """Read what a document consists of; `None` when it is not published.

        Raises:
            DamagedCacheError: The manifest is damaged, or of another document.
            StoreError: The store cannot be reached or read.
        """
        data = self.store.load_manifest(self.space, document_id)
        if data is None:
            return None
        return Manifest.decode(data, space=self.space, document_id=document_id)

    def read_block(self, manifest: Manifest, name: str) -> StoredBlock:
        """Read a block that a manifest names. Do not write to its tensors.

        Returns:
            Keys not rotated, (layers, kv_heads, tokens, head_dim), on the CPU.

        Raises:
            ValueError: The manifest names no such block.
            DamagedCacheError: The block is missing, damaged, of another place, or not what the
                manifest says.
            StoreError: The store cannot be reached or read.
        """
        block = _alike(manifest, name)  # refuses a name that the manifest lacks
        buffer = self.store.read(self.space, manifest.document_id, manifest.version, name)
        self._count(buffer)
        return block.decode(buffer, name)

    def read_blocks(
        self, manifest: Manifest, names: Sequence[str]
    ) -> Generator[StoredBlock | DamagedCacheError, None, None]:
        """Read blocks that a manifest names, in order, the next ones already on their way.

        Close the generator where not all are taken.

        Yields:
            A block, as `read_block` gives it; or the error that it would raise because of damage.

        Raises:
            ValueError: The manifest names no such block.
            StoreError: The store cannot be reached or read; no more are given.
        """
        blocks = [_alike(manifest, name) for name in names]  # refuses what the manifest lacks
        place = (self.space, manifest.document_id, manifest.version)
        with closing(self.store.read_each(*place, names)) as values:
            for name, block, value in zip(names, blocks, values, strict=True):
                if isinstance(value, DamagedCacheError):
                    yield value
                else:
                    self._count(value)
                    yield or_damage(partial(block.decode, value, name))

    @contextmanager
    def writer(
        self, document_id: str, version: str, *, wait: bool = True
    ) -> Iterator[ArchiveWriter]:
        """Lock a document for writing, until the context ends; wait for others, or not at all.

        Raises:
            StoreError: Another writer did not end in time, the store cannot be written, or it is
                encrypted and was opened without its key.
        """
        refuse_encrypted(self.store)
        if not self._known_plain:
            refuse_encrypted_documents(self.store)
            self._known_plain = True
        with self.store.writer(self.space, document_id, version, wait=wait) as writer:
            yield ArchiveWriter(writer, space=self.space, document_id=document_id, version=version)

    def manifests(self, *, strict: bool = False) -> Iterator[Manifest]:
        """Go through all documents; damaged manifests are logged and left out.

        Args:
            strict: Raise at a damaged manifest instead.

        Raises:
            DamagedCacheError: A manifest is damaged, and `strict`.
            StoreError: The store cannot be reached or read.
        """
        for digest, data in self.store.manifests(self.space):
            try:
                manifest = Manifest.decode_listed(data, space=self.space, digest=digest)
            except DamagedCacheError as error:
                if strict:
                    raise
                _logger.warning("left out a document of %s: %s", self.store.url, error)
            else:
                yield manifest

    def pin(self, document_id: str, *, pinned: bool = True) -> bool:
        """Keep a document for good, neither expired nor evicted, or no longer; is it there?

        Raises:
            StoreError: The store cannot be reached or written.
        """
        return self.store.pin(self.space, document_id, pinned=pinned)

    def delete(self, document_id: str) -> bool:
        """Remove a document with all its blocks; was it there?

        Raises:
            StoreError: Another writer did not end in time, or the store cannot be written.
        """
        return self.store.delete(self.space, document_id)

    def _count(self, buffer: memoryview) -> None:
        with self._lock:
            self._bytes_read += buffer.nbytes


def whole_blocks(manifest: Manifest, sizes: Mapping[str, int]) -> frozenset[str]:
    """Name the blocks of a manifest that have the size they must have, among values that are there.

    Args:
        manifest: Whose blocks.
        sizes: Bytes of each value, by name.
    """
    place = {"space": manifest.space, "version": manifest.version}
    return frozenset(
        name
        for name in manifest.block_names
        if name in sizes
        and sizes[name]
        == encoded_bytes(
            manifest.block_shape(name),
            manifest.block_dtype(name),
            document_id=manifest.document_id,
            name=name,
            **place,
        )
    )


def open_block(buffer: memoryview, manifest: Manifest, name: str) -> StoredBlock:
    """Take a block out of its bytes, and hold it to what the manifest says.

    Raises:
        ValueError: The manifest names no such block.
        DamagedCacheError: The bytes are damaged, of another place, or of another shape.
    """
    return _alike(manifest, name).decode(buffer, name)


def _alike(manifest: Manifest, name: str) -> KnownBlocks:
    """Tell what a block must be, and others that differ from it in their number alone.

    Raises:
        ValueError: The manifest names no such block.
    """
    return known_blocks(
        manifest.block_dtype(name),
        manifest.block_shape(name),
        space=manifest.space,
        document_id=manifest.document_id,
        version=manifest.version,
        digits=len(name),
    )
