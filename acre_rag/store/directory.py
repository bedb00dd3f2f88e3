"""Caches in a directory: one folder a document, one file a value, read through mmap.

<path>/<space>/<digest of the document id>/manifest         version and manifest, published
<path>/<space>/<digest of the document id>/<version>/l2-17  one value
<path>/<space>/locks/<digest of the document id>            held by the document's writer
"""

import errno
import os
import shutil
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from acre_rag.errors import DamagedCacheError, StoreError
from acre_rag.store.address import check_hex, check_name, document_digest
from acre_rag.store.damage import or_damage
from acre_rag.store.files import explained, folders, make_folders, map_file, put_file
from acre_rag.store.frame import Label
from acre_rag.store.protocol import ByteRun, DocumentWriter
from acre_rag.store.publication import (
    MAX_LINE_BYTES,
    join_publication,
    published_manifest,
    published_version,
)
from acre_rag.store.waiting import still_written

STAGING_SECONDS = 24 * 3600
"""Age at which values that were never published are removed."""

_MANIFEST = "manifest"
_LOCKS = "locks"


class DirectoryStore:
    """Keeps caches in a directory of a POSIX file system. Opening one changes nothing on disk.

    Every file is written aside and put in place by one rename, so that a killed process leaves
    no torn value. Only manifests are flushed to the disk: after a power loss a document's text
    is the old or the new one, and blocks that had not reached the disk fail their checksum and
    are encoded again. Values are mapped, not copied: a file must not be changed in place.
    A directory that it makes is for this user alone; one that was there keeps its mode, and
    folders inside take it.

    Attributes:
        url: The directory's absolute path.
    """

    def __init__(self, path: str | os.PathLike[str], *, lock_seconds: float = 30.0) -> None:
        self._path = Path(path).absolute()
        self._lock_seconds = lock_seconds
        self._swept: set[Path] = set()
        self.url = str(self._path)
        try:
            self.url.encode()
        except UnicodeEncodeError as error:
            # PyTorch maps files by names in UTF-8 alone.
            raise StoreError(
                f"found a store path that is not UTF-8, {self.url!r}; expected one that is: "
                "rename the directory"
            ) from error
        if "\0" in self.url:
            raise StoreError(
                f"found a store path with a NUL, {self.url!r:.300}; expected none: correct it"
            )
        with explained("open", self._path):
            if self._path.exists() and not self._path.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))

    def load_manifest(self, space: str, document_id: str) -> bytes | None:
        """Read what was published of a document; `None` when nothing is."""
        return _read_manifest(self._folder(space, document_id))

    def read(self, space: str, document_id: str, version: str, name: str) -> memoryview:
        """Map a value into memory."""
        check_hex("space", space)
        check_hex("version", version)
        # A question reads hundreds of values: joining a `Path` takes as long as mapping one.
        values = f"{self.url}/{space}/{document_digest(document_id)}/{version}"
        return _map_value(values, name, document_id)

    def read_each(
        self, space: str, document_id: str, version: str, names: Sequence[str]
    ) -> Generator[memoryview | DamagedCacheError, None, None]:
        """Map values into memory, one after the other."""
        for name in names:
            yield or_damage(partial(self.read, space, document_id, version, name))

    @contextmanager
    def writer(
        self, space: str, document_id: str, version: str, *, wait: bool = True
    ) -> Iterator[DocumentWriter]:
        """Lock a document for writing, until the context ends."""
        check_hex("version", version)
        folder = self._folder(space, document_id)
        with self._locked(folder, document_id, seconds=self._lock_seconds if wait else 0):
            self._sweep(folder)
            writer = _DirectoryWriter(folder, version, document_id)
            try:
                yield writer
            finally:
                writer.end()

    def delete(self, space: str, document_id: str) -> bool:
        """Remove a document with all its values, staged ones too; was it published?"""
        folder = self._folder(space, document_id)
        with explained("delete", folder):
            if not folder.exists():
                return False
        with (
            self._locked(folder, document_id, seconds=self._lock_seconds),
            explained("delete", folder),
        ):
            published = (folder / _MANIFEST).exists()
            (folder / _MANIFEST).unlink(missing_ok=True)
            if folder.exists():
                shutil.rmtree(folder)
        return published

    def pin(self, space: str, document_id: str, *, pinned: bool = True) -> bool:
        """Say whether a document is there; none is ever expired or evicted."""
        del pinned
        return _read_manifest(self._folder(space, document_id)) is not None

    def manifests(self, space: str) -> Iterator[tuple[str, bytes]]:
        """Go through what is published in a space: digests of the document ids, and manifests."""
        check_hex("space", space)
        for folder in folders(self._path / space):
            manifest = _read_manifest(folder)
            if manifest is not None:
                yield folder.name, manifest

    def spaces(self) -> list[str]:
        """List the spaces that hold a published document, in order."""
        with explained("list", self._path):
            return [
                space.name
                for space in folders(self._path)
                if any((folder / _MANIFEST).exists() for folder in folders(space))
            ]

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _folder(self, space: str, document_id: str) -> Path:
        check_hex("space", space)
        return self._path / space / document_digest(document_id)

    @contextmanager
    def _locked(self, folder: Path, document_id: str, *, seconds: float) -> Iterator[None]:
        # Two locks of one process exclude each other as those of two processes do.
        path = folder.parent / _LOCKS / folder.name
        lock = FileLock(path, thread_local=False)
        with explained("lock", path):
            make_folders(path.parent, self._path)
            try:
                lock.acquire(timeout=seconds)
            except Timeout as error:
                raise still_written(document_id, seconds) from error
        try:
            yield
        finally:
            lock.release()

    def _sweep(self, own: Path) -> None:
        """Remove staging that expired: of this document, and once of all that nobody writes."""
        with explained("clear", own):
            for values in _expired(own):
                shutil.rmtree(values)
        space = own.parent
        if space in self._swept:
            return
        self._swept.add(space)
        for folder in folders(space):
            # What another user or another writer holds is left to a later sweep.
            with suppress(StoreError, OSError):
                if folder != own and _expired(folder):
                    with self._locked(folder, folder.name, seconds=0):
                        for values in _expired(folder):
                            shutil.rmtree(values)
                        folder.rmdir()


class _DirectoryWriter:
    """Writes values into the folder of their version, which no reader knows until `publish`."""

    def __init__(self, folder: Path, version: str, document_id: str) -> None:
        self._folder = folder
        self._version = version
        self._values = folder / version
        self._document_id = document_id
        self._ended = False
        with explained("write", self._values):
            make_folders(self._values, store=folder.parent.parent)
            for partial in (*folder.glob("*.partial"), *self._values.glob("*.partial")):
                partial.unlink()
            os.utime(self._values)

    def staged(self) -> dict[str, int]:
        """Name the values that this version has already, with the bytes that each has now."""
        with explained("list", self._values), os.scandir(self._values) as entries:
            files = {entry.name.replace("-", ":"): entry.stat().st_size for entry in entries}
        return {name: size for name, size in files.items() if not name.endswith(".partial")}

    def read(self, name: str) -> memoryview:
        """Map a value of this version into memory."""
        return _map_value(str(self._values), name, self._document_id)

    def write(self, name: str, runs: Sequence[ByteRun]) -> None:
        """Write a value whole, or not at all; one of that name is replaced in one step."""
        self._put(self._values / _file_name(name), runs, flush=False)

    def publish(self, manifest: bytes) -> None:
        """Show this version to readers in one step, and remove the version it replaces."""
        replaced = _published_version(self._folder)
        runs = join_publication(self._version, manifest)
        self._put(self._folder / _MANIFEST, runs, flush=True)
        if replaced is not None and replaced != self._version:
            # Nobody asks for its values any more; what cannot be removed now will expire.
            shutil.rmtree(self._folder / replaced, ignore_errors=True)

    def end(self) -> None:
        """Refuse to write from now on: the lock is released."""
        self._ended = True

    def _put(self, path: Path, runs: Sequence[ByteRun], *, flush: bool) -> None:
        if self._ended:
            raise StoreError(
                f"the writer of document {self._document_id!r} has ended; expected writes within "
                "its context: open another writer"
            )
        put_file(path, runs, flush=flush)


def _file_name(name: str) -> str:
    check_name(name)
    return name.replace(":", "-")


def _map_value(values: str, name: str, document_id: str) -> memoryview:
    return map_file(f"{values}/{_file_name(name)}", Label(document_id, name))


def _read_manifest(folder: Path) -> bytes | None:
    with explained("read", folder):
        try:
            return published_manifest((folder / _MANIFEST).read_bytes())
        except FileNotFoundError:
            return None


def _published_version(folder: Path) -> str | None:
    """Read which version is published; `None` where none is, or where there is no telling."""
    with explained("read", folder):
        try:
            with (folder / _MANIFEST).open("rb") as file:
                return published_version(file.read(MAX_LINE_BYTES))
        except FileNotFoundError:
            return None


def _expired(folder: Path) -> list[Path]:
    """Find values of a document that were neither published nor written to for a day."""
    published = _published_version(folder)
    if published is None and (folder / _MANIFEST).exists():
        return []
    oldest = time.time() - STAGING_SECONDS
    return [
        values
        for values in folders(folder)
        if values.name != published and values.stat().st_mtime < oldest
    ]
