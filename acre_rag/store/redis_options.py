"""Options of a store in Redis, as arguments or in its URL."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args
from urllib.parse import parse_qsl, urlencode

from acre_rag.errors import StoreOptionError

BufferKind: TypeAlias = Literal["fresh", "reused", "pinned"]

DEFAULT_NAMESPACE = "acre"

_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_BYTES = re.compile(r"(\d{1,15})\s*([kmgt]?)b?", re.IGNORECASE)
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
# A century: far below what the server takes, in milliseconds.
_MAX_SECONDS = 100 * 365 * 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisOptions:
    """How a store uses its server.

    Attributes:
        namespace: First part of every key: letters, digits, dots, dashes and underscores.
        ttl_seconds: How long a document stays after it was read or written last; `None` for good.
        max_bytes: The most that all documents of the namespace may take; `None` sets no limit.
        buffers: Where values are received: in `fresh` memory, in memory that is `reused` when
            nobody looks at it any more, or that is also `pinned` for a GPU; `None` takes what the
            client itself gives.

    Raises:
        StoreOptionError: One of them makes no sense.
    """

    namespace: str = DEFAULT_NAMESPACE
    ttl_seconds: float | None = None
    max_bytes: int | None = None
    buffers: BufferKind | None = "fresh"

    def __post_init__(self) -> None:
        if not _NAMESPACE.fullmatch(self.namespace):
            raise StoreOptionError(
                f"found the namespace {self.namespace[:80]!r}; expected 1 to 64 letters, digits, "
                "dots, dashes or underscores: rename it"
            )
        if self.ttl_seconds is not None and not 1 <= self.ttl_seconds <= _MAX_SECONDS:
            raise StoreOptionError(
                f"ttl_seconds is {self.ttl_seconds}; expected 1 to {_MAX_SECONDS}: change it, or "
                "leave it out to keep documents for good"
            )
        if self.max_bytes is not None and self.max_bytes < 1:
            raise StoreOptionError(
                f"max_bytes is {self.max_bytes}; expected 1 or more: raise it, or leave it out"
            )
        if self.buffers not in (None, *get_args(BufferKind)):
            raise StoreOptionError(
                f"buffers is {self.buffers!r}; expected one of {', '.join(get_args(BufferKind))}: "
                "name one"
            )


def split_options(url: str) -> tuple[str, dict[str, Any]]:
    """Take the options of a store out of a URL; what is left is for the client.

    Raises:
        StoreOptionError: One of them cannot be read.
    """
    address, _, query = url.partition("?")
    ours: dict[str, Any] = {}
    theirs = []
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in _READERS:
            ours[name] = _READERS[name](name, value)
        else:
            theirs.append((name, value))
    return (f"{address}?{urlencode(theirs)}" if theirs else address), ours


def _text(_: str, value: str) -> str:
    return value


def _seconds(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise _unreadable(name, value, "a number of seconds, such as 86400") from None


def _bytes(name: str, value: str) -> int:
    found = _BYTES.fullmatch(value)
    if found is None:
        raise _unreadable(name, value, "a number of bytes, such as 500mb or 20gb")
    return int(found[1]) * _UNITS[found[2].lower()]


def _unreadable(name: str, value: str, expected: str) -> StoreOptionError:
    return StoreOptionError(f"{name} is {value[:80]!r} in the URL; expected {expected}: correct it")


_READERS: Mapping[str, Callable[[str, str], object]] = MappingProxyType(
    {"namespace": _text, "ttl_seconds": _seconds, "max_bytes": _bytes, "buffers": _text}
)
