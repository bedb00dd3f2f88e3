"""A document: what a caller gives to be read."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from acre_rag.errors import DocumentError
from acre_rag.metadata import JSONValue, check_string, checked_metadata

_PASSAGE_ID = re.compile(r"content:[0-9a-f]{32}")
_LONGEST_ID = 2**14


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A text with a name, to be read once and asked often.

    Attributes:
        id: Names the document in its store; reading another text under it replaces the document.
        text: What the model reads, character for character.
        metadata: What the caller wants to know about it, as JSON would hold it; the model never
            sees it. Kept as a copy.

    Raises:
        DocumentError: The id or the text is empty or blank, too long, or holds characters that
            cannot be stored; or the metadata is not as JSON would hold it, or too large.
    """

    id: str
    text: str
    metadata: Mapping[str, JSONValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_string("the document id", self.id)
        if not self.id or self.id.isspace():
            raise DocumentError(f"the document id is {self.id!r}; expected a name: give one")
        if len(self.id.encode()) > _LONGEST_ID:
            raise DocumentError(
                f"the document id {self.id!r:.40} has {len(self.id):,} characters; expected "
                f"{_LONGEST_ID:,} bytes or fewer: give a shorter one"
            )
        check_string(f"the text of document {self.id!r}", self.text)
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
        where = f"the metadata of document {self.id!r}"
        object.__setattr__(self, "metadata", checked_metadata(self.metadata, where))

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
