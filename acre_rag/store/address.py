"""Where a value lives: spaces, versions and names are checked, document ids are digested."""

import hashlib
import re
from functools import lru_cache

from acre_rag.errors import StoreError

_HEX = re.compile(r"[0-9a-f]{8,128}")
_NAME = re.compile(r"[a-z][a-z0-9]{0,15}:[0-9]{1,9}")


def document_digest(document_id: str) -> str:
    """Digest a document id, whatever its length and characters, to 40 hexadecimal digits.

    Raises:
        StoreError: The id is empty, or no string.
    """
    if not isinstance(document_id, str):
        raise StoreError(
            f"found a document id of type {type(document_id).__name__}; expected a string: pass "
            "document.id"
        )
    if not document_id:
        raise StoreError("found an empty document id; expected one or more characters: name it")
    return _digest(document_id)


@lru_cache(maxsize=64)  # a question reads hundreds of values of one document
def _digest(document_id: str) -> str:
    # A path with undecodable bytes reaches Python with lone surrogates.
    return hashlib.sha256(document_id.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def check_hex(what: str, digest: str) -> None:
    """Refuse a space or a version that could not be part of a file name or a key.

    Raises:
        StoreError: `digest` is not lowercase hexadecimal of 8 to 128 digits.
    """
    if not _HEX.fullmatch(digest):
        raise StoreError(
            f"{what} is {digest[:140]!r}; expected 8 to 128 lowercase hexadecimal digits: "
            "pass a hex digest"
        )


def check_name(name: str) -> None:
    """Refuse a value's name that could not be part of a file name or a key.

    Raises:
        StoreError: `name` is not a word, a colon and a number, as `l2:17` is.
    """
    if not _NAME.fullmatch(name):
        raise StoreError(
            f"the name of a value is {name[:40]!r}; expected a word, a colon and a number, "
            "such as 'l2:17': rename it"
        )
