"""What may be kept with a document beside its text: what JSON holds, within limits."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import msgpack

from acre_rag.errors import DocumentError

JSONValue: TypeAlias = (
    "bool | int | float | str | Sequence[JSONValue] | Mapping[str, JSONValue] | None"
)

MAX_ENTRIES = 4096
"""Most entries of one list or dict."""

MAX_BYTES = 2**20
"""Most bytes of all of it, as it is stored."""

_INTEGERS = range(-(2**63), 2**63)
_DEEPEST = 32
_SURROGATE = re.compile("[\ud800-\udfff]")


def checked_metadata(metadata: object, where: str) -> dict[str, JSONValue]:
    """Copy metadata as it would come back from a store; tuples become lists.

    Args:
        metadata: What a caller gave.
        where: Names it in errors.

    Raises:
        DocumentError: It is no mapping, is not made of what JSON has, or is too large or too deep.
    """
    if not isinstance(metadata, Mapping):
        raise DocumentError(
            f"{where} is of type {type(metadata).__name__}; expected a dict: name each value"
        )
    copied = _copy_mapping(metadata, where, depth=0)
    size = len(msgpack.packb(copied))
    if size > MAX_BYTES:
        raise DocumentError(
            f"{where} takes {size:,} bytes; expected at most {MAX_BYTES:,}: shorten it, or keep it "
            "elsewhere under the document's id"
        )
    return copied


def check_string(where: str, value: object) -> None:
    """Refuse what is no string, or none that UTF-8 can hold.

    Raises:
        DocumentError: So it is.
    """
    if not isinstance(value, str):
        raise DocumentError(
            f"{where} is of type {type(value).__name__}; expected a string: convert it"
        )
    surrogate = _SURROGATE.search(value)
    if surrogate:
        raise DocumentError(
            f"{where} has half a surrogate pair at character {surrogate.start()}; expected text "
            "that UTF-8 can hold: decode its bytes as what they are"
        )


def _copy(value: object, where: str, *, depth: int) -> JSONValue:
    match value:
        case None | bool():
            return value
        case int() if value in _INTEGERS:
            return value
        case float() if math.isfinite(value):
            return value
        case str():
            check_string(where, value)
            return value
        case list() | tuple():
            _check_room(value, where, depth)
            return [_copy(item, f"{where}[{i}]", depth=depth + 1) for i, item in enumerate(value)]
        case Mapping():
            return _copy_mapping(value, where, depth=depth)
    raise DocumentError(
        f"{where} is {value!r:.60}, of type {type(value).__name__}; expected None, a bool, an "
        "integer of 64 bits, a finite float, a string, a list or a dict: convert it"
    )


def _copy_mapping(
    value: Mapping[object, object], where: str, *, depth: int
) -> dict[str, JSONValue]:
    _check_room(value, where, depth)
    for key in value:
        check_string(f"a key of {where}", key)
    return {
        str(key): _copy(item, f"{where}[{key!r:.60}]", depth=depth + 1)
        for key, item in value.items()
    }


def _check_room(value: Sequence[object] | Mapping[object, object], where: str, depth: int) -> None:
    if depth >= _DEEPEST:
        raise DocumentError(f"{where} is nested {_DEEPEST} deep; expected less: flatten it")
    if len(value) > MAX_ENTRIES:
        raise DocumentError(
            f"{where} has {len(value):,} entries; expected at most {MAX_ENTRIES:,}: keep it "
            "elsewhere under the document's id"
        )
