"""A document: what a caller gives to be read."""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from acre_rag.errors import DocumentError

JSONValue: TypeAlias = (
    "bool | int | float | str | Sequence[JSONValue] | Mapping[str, JSONValue] | None"
)

_PASSAGE_ID = re.compile(r"content:[0-9a-f]{32}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_INTEGERS = range(-(2**63), 2**63)
_DEEPEST = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A text with a name, to be read once and asked often.

    Attributes:
        id: Names the document in its store; reading another text under it replaces the document.
        text: What the model reads, character for character.
        metadata: What the caller wants to know about it, as JSON would hold it; the model never
            sees it. Kept as a copy.

    Raises:
        DocumentError: The id or the text is empty or blank, or holds characters that cannot be
            stored; or the metadata is not as JSON would hold it.
    """

    id: str
    text: str
    metadata: Mapping[str, JSONValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_string("the document id", self.id)
        if not self.id or self.id.isspace():
            raise DocumentError(f"the document id is {self.id!r}; expected a name: give one")
        _check_string(f"the text of document {self.id!r}", self.text)
        if not self.text or self.text.isspace():
            raise DocumentError(
                f"document {self.id!r} is empty or blank; expected text: leave it out or fill it"
            )
        nul = self.text.find("\0")
        if nul >= 0:
            raise DocumentError(
                f"document {self.id!r} has a NUL at character {nul}; expected text: "
                "decode binary data first, or take the NUL out"
            )
        if not isinstance(self.metadata, Mapping):
            raise DocumentError(
                f"the metadata of document {self.id!r} is of type "
                f"{type(self.metadata).__name__}; expected a dict: name each value"
            )
        where = f"the metadata of document {self.id!r}"
        object.__setattr__(self, "metadata", _copy_json(self.metadata, where, depth=0))

    @classmethod
    def passage(cls, text: str) -> "Document":
        """Name a text by its content alone, so that the same text is read once.

        A passage answers where its id is named, never where all documents are asked.

        Raises:
            DocumentError: As for any document.
        """
        return cls(id=content_id(text), text=text)


def is_passage(document_id: str) -> bool:
    """Tell whether an id names a text by its content alone."""
    return _PASSAGE_ID.fullmatch(document_id) is not None


def content_id(text: str) -> str:
    """Name a text by its content alone."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"content:{digest[:32]}"


def _copy_json(value: object, where: str, *, depth: int) -> JSONValue:
    """Copy a value as JSON would hold it; `where` names it in errors."""
    if depth > _DEEPEST:
        raise DocumentError(f"{where} is nested over {_DEEPEST} deep; expected less: flatten it")
    match value:
        case None | bool():
            return value
        case int() if value in _INTEGERS:
            return value
        case float() if math.isfinite(value):
            return value
        case str():
            _check_string(where, value)
            return value
        case list() | tuple():
            return [
                _copy_json(item, f"{where}[{i}]", depth=depth + 1) for i, item in enumerate(value)
            ]
        case Mapping():
            for key in value:
                _check_string(f"a key of {where}", key)
            return {
                key: _copy_json(item, f"{where}[{key!r}]", depth=depth + 1)
                for key, item in value.items()
            }
    shown = repr(value)[:60]
    raise DocumentError(
        f"{where} is {shown}, of type {type(value).__name__}; expected None, a bool, an integer of "
        "64 bits, a finite float, a string, a list or a dict: convert it"
    )


def _check_string(where: str, value: object) -> None:
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
