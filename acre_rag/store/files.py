"""Files of a directory store: put in place by one rename, read through mmap, errors explained."""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from acre_rag.errors import StoreError
from acre_rag.store.frame import Label
from acre_rag.store.protocol import ByteRun

_LONGEST_SHOWN = 300
_FULL = ("free space", "free some, or choose another store")
_DENIED = ("permission to do so", "change its owner or mode, or choose another store")
_REMEDIES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: ("room for the file", "raise the limit on file sizes"),
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EROFS: ("a disk that can be written", "choose another store"),
    errno.ENOTDIR: ("a directory", "choose another store"),
    errno.ENAMETOOLONG: ("a shorter path", "choose another store"),
    errno.ELOOP: ("a path that ends somewhere", "correct its links"),
    errno.EEXIST: ("a folder there", "move away what stands in its place"),
    errno.EISDIR: ("a file there", "move away the folder that stands in its place"),
    errno.EMFILE: ("a free file descriptor", "raise the limit on open files"),
}


@contextmanager
def explained(action: str, path: str | Path) -> Iterator[None]:
    """Turn an error of the operating system into one that says what to do.

    Raises:
        StoreError: The operating system refused.
    """
    try:
        yield
    except OSError as error:
        expected, remedy = _REMEDIES.get(error.errno or 0, ("success", "look at the disk"))
        found = error.strerror or str(error)
        place = str(path) if len(str(path)) <= _LONGEST_SHOWN else f"{path!s:.{_LONGEST_SHOWN}}..."
        raise StoreError(
            f"cannot {action} {place}: found {found!r}; expected {expected}: {remedy}"
        ) from error


def make_folders(path: Path, store: Path) -> None:
    """Make a folder of a store, and all above it that are missing.

    What is kept of a document is the document: the store's own folder, where it is made, is for
    this user alone. One that was there already says by its mode who may look into the others.

    Raises:
        OSError: The operating system refused.
    """
    try:
        mode = stat.S_IMODE(store.stat().st_mode) & 0o777
    except FileNotFoundError:
        mode = 0o700
    for folder in reversed([path, *path.parents]):
        if not folder.is_dir():
            folder.mkdir(mode=mode, exist_ok=True)


def map_file(path: str, label: Label) -> memoryview:
    """Map a whole file into memory; changes made to the view stay in this process.

    Raises:
        DamagedCacheError: There is no such file (reason `missing`).
        StoreError: The file cannot be read.
    """
    with explained("read", path):
        try:
            size = os.stat(path).st_size  # noqa: PTH116  # many a question; a Path takes as long again
        except FileNotFoundError as error:
            raise label.damage("missing", found="no file", expected=path) from error
    if size == 0:
        return memoryview(b"")
    try:
        # Python's own mmap would keep a file descriptor open for as long as the view lives.
        mapped = torch.from_file(path, shared=False, size=size, dtype=torch.uint8)
    except RuntimeError as error:
        if not Path(path).exists():
            raise label.damage("missing", found="no file", expected=path) from error
        raise StoreError(
            f"cannot read {path}: found {error}; expected a file of {size} bytes that may be "
            "mapped: check its permissions and the memory that is free"
        ) from error
    return mapped.numpy().data


def put_file(path: Path, runs: Sequence[ByteRun], *, flush: bool) -> None:
    """Write a file aside, and rename it into place.

    Args:
        path: Where it shall be. A file there is replaced in one step.
        runs: Its bytes.
        flush: Return only once the file would survive a power loss.

    Raises:
        StoreError: The file cannot be written; what was there before still is.
    """
    partial = path.with_name(f"{path.name}.partial")
    with explained("write", path):
        try:
            with partial.open("wb") as file:
                file.writelines(runs)
                if flush:
                    file.flush()
                    os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        if flush:
            _flush_directory(path.parent)


def folders(path: Path) -> list[Path]:
    """List the folders in a folder, in order; none where it does not exist.

    Raises:
        StoreError: It cannot be listed.
    """
    with explained("list", path):
        try:
            with os.scandir(path) as entries:
                return sorted(path / entry.name for entry in entries if entry.is_dir())
        except FileNotFoundError:
            return []


def _flush_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
