"""Files and folders to documents."""

import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

from acre_rag.errors import DocumentError
from acre_rag.text.document import Document
from acre_rag.text.formats import FORMATS

PathLike: TypeAlias = str | os.PathLike[str]

# Some 250 million tokens. A larger file is a mistake, and reading it would exhaust memory.
_LARGEST_BYTES = 2**30


def read_documents(paths: PathLike | Iterable[PathLike]) -> Iterator[Document]:
    """Read files, and the files in folders, one at a time.

    Text and Markdown are kept character for character; HTML and PDF become text. Folders are
    walked in sorted order; hidden files, links to folders and files of other kinds are passed by.
    A file named twice is read once. What is missing or of another kind is reported before
    anything is read.

    Args:
        paths: Files or folders, or a single one.

    Yields:
        A document for each file. Its id is the path as given; for a file found in a folder, the
        folder as given joined with the rest of the way. Metadata: `path`, the same, and
        `media_type`.

    Raises:
        DocumentError: A path is missing or of a kind that cannot be read, a folder holds nothing
            to read, or a file is empty, binary, wrongly encoded, encrypted or broken.
    """
    for name in find_documents(paths):
        yield _read(name)


def find_documents(paths: PathLike | Iterable[PathLike]) -> list[str]:
    """Name the documents that `read_documents` would give, without reading any.

    Raises:
        DocumentError: A path is missing or of a kind that cannot be read, or a folder holds
            nothing to read.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    names = [name for path in given for name in _names(os.fspath(path))]
    return list(dict.fromkeys(names))


def _names(given: str) -> Iterator[str]:
    """Name each file that a path stands for."""
    if not given:
        raise DocumentError("found an empty path; expected a file or a folder: name one")
    path = Path(given)
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # said below
    except (OSError, ValueError) as error:
        raise DocumentError(_unreadable(given, error)) from error
    if path.is_dir():
        found = [f"{given.rstrip('/')}/{file.relative_to(path).as_posix()}" for file in _walk(path)]
        if not found:
            raise DocumentError(f"found nothing to read in {given!r}; {_expected()}")
        yield from found
    elif not path.exists():
        raise DocumentError(f"found no file {given!r}; expected a file or a folder: check the path")
    elif path.suffix.lower() not in FORMATS:
        raise DocumentError(f"{given!r} is of an unknown kind; {_expected()}")
    else:
        yield given


def _walk(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DocumentError(_unreadable(str(folder), error)) from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        # A link to a folder may lead back up.
        if entry.is_dir() and not entry.is_symlink():
            yield from _walk(entry)
        elif entry.is_file() and entry.suffix.lower() in FORMATS:
            yield entry


def _read(name: str) -> Document:
    path = Path(name)
    kind = FORMATS[path.suffix.lower()]
    try:
        size = path.stat().st_size
        if size > _LARGEST_BYTES:
            raise DocumentError(
                f"{name!r} has {size:,} bytes; expected at most {_LARGEST_BYTES:,}: split it"
            )
        data = path.read_bytes()
    except OSError as error:
        raise DocumentError(_unreadable(name, error)) from error
    if not data:
        raise DocumentError(f"{name!r} is empty; expected text: leave it out or fill it")
    text = kind.extract(data, name)
    return Document(id=name, text=text, metadata={"path": name, "media_type": kind.media_type})


def _unreadable(name: str, error: OSError | ValueError) -> str:
    shown = name if len(name) <= 120 else f"{name[:117]}..."
    if getattr(error, "errno", None) in (errno.EACCES, errno.EPERM):
        remedy = "check its rights"
    else:
        remedy = "check the path"
    reason = getattr(error, "strerror", None) or error
    return f"{shown!r} cannot be read ({reason}); expected a readable file: {remedy}"


def _expected() -> str:
    return f"expected {', '.join(FORMATS)}: convert it to one of them, or rename it"
