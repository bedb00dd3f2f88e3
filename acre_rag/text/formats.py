"""The bytes of a file to its text, for each kind of file that can be read."""

import re
import shlex
from collections.abc import Callable
from types import MappingProxyType
from typing import NamedTuple

from acre_rag.errors import DocumentError
from acre_rag.text.pdf import extract_pdf

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_CHARSET = re.compile(rb"""charset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
# Browsers look no further for the encoding that a page declares.
_CHARSET_WITHIN = 1024


class Format(NamedTuple):
    """A kind of file: its media type, and how its text is got from its bytes."""

    media_type: str
    extract: Callable[[bytes, str], str]


def decode_text(data: bytes, name: str) -> str:
    """Decode UTF-8, character for character: line ends and a byte order mark stay.

    Raises:
        DocumentError: The bytes are something else.
    """
    _refuse_binary(data, name)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError(_wrong_encoding(name, error)) from error


def extract_html(data: bytes, name: str) -> str:
    """Lay out the text of a page; scripts, styles and the head are left out.

    Raises:
        DocumentError: The bytes are neither UTF-8 nor what the page declares.
    """
    try:
        from inscriptis import get_text
        from inscriptis.css_profiles import CSS_PROFILES
        from inscriptis.model.config import ParserConfig
    except ModuleNotFoundError as error:
        raise DocumentError(
            f"{name!r} cannot be read without inscriptis; "
            "expected the extra 'files': run pip install 'acre-rag[files]'"
        ) from error
    page = _decode_html(data, name)
    # The strict profile shows a page as a browser does, without padding of its own.
    text: str = get_text(page, ParserConfig(css=CSS_PROFILES["strict"]))
    return text


FORMATS = MappingProxyType(
    {
        ".txt": Format("text/plain", decode_text),
        ".md": Format("text/markdown", decode_text),
        ".html": Format("text/html", extract_html),
        ".htm": Format("text/html", extract_html),
        ".pdf": Format("application/pdf", extract_pdf),
    }
)


def _decode_html(data: bytes, name: str) -> str:
    _refuse_binary(data, name)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        declared = _CHARSET.search(data[:_CHARSET_WITHIN])
        if declared is None:
            raise DocumentError(_wrong_encoding(name, error)) from error
    charset = declared[1].decode("ascii", "replace")
    try:
        return data.decode(charset)
    except (LookupError, UnicodeError) as error:
        raise DocumentError(
            f"{name!r} declares the encoding {charset!r} but cannot be decoded so ({error}); "
            "expected UTF-8 or what it declares: correct the declaration"
        ) from error


def _refuse_binary(data: bytes, name: str) -> None:
    if data.startswith(_UTF16_MARKS):
        raise DocumentError(
            f"{name!r} is UTF-16; expected UTF-8: "
            f"convert it, with 'iconv -f UTF-16 -t UTF-8 {shlex.quote(name)} > converted' say"
        )
    nul = data.find(b"\0")
    if nul >= 0:
        raise DocumentError(
            f"{name!r} is binary (a NUL at byte {nul}); expected text in UTF-8: "
            "leave it out, or convert it to text"
        )


def _wrong_encoding(name: str, error: UnicodeDecodeError) -> str:
    return (
        f"{name!r} is not UTF-8 (byte 0x{error.object[error.start]:02x} at offset {error.start}); "
        f"expected UTF-8: convert it, with 'iconv -f WINDOWS-1252 -t UTF-8 {shlex.quote(name)} "
        "> converted' say"
    )
