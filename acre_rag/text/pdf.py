"""PDF to text."""

import io
import re
import shlex

from acre_rag.errors import DocumentError

_NOT_TEXT = re.compile("[\0\ud800-\udfff]")


def extract_pdf(data: bytes, name: str) -> str:
    """Take the text out of each page, with an empty line between pages.

    What no text can hold (NUL, half a surrogate pair) becomes U+FFFD.

    Raises:
        DocumentError: The file is broken, needs a password, or holds no text.
    """
    try:
        from pypdf import PdfReader
        from pypdf.errors import DeprecationError, PyPdfError
    except ModuleNotFoundError as error:
        raise DocumentError(
            f"{name!r} cannot be read without pypdf; "
            "expected the extra 'files': run pip install 'acre-rag[files]'"
        ) from error
    try:
        reader = PdfReader(io.BytesIO(data))
        # Many files are encrypted without a password, only to state permissions.
        locked = reader.is_encrypted and not reader.decrypt("")
        pages = [] if locked else [page.extract_text() for page in reader.pages]
    # The structure of a broken file leads the parser astray in all of these ways.
    except (
        PyPdfError,
        DeprecationError,
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        NotImplementedError,
        OSError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise DocumentError(
            f"{name!r} cannot be read as PDF ({type(error).__name__}: {error}); expected a whole "
            f"one: repair it, with 'qpdf {shlex.quote(name)} repaired.pdf' say"
        ) from error
    if locked:
        raise DocumentError(
            f"{name!r} is an encrypted PDF; expected one that opens without a password: "
            f"decrypt it, with 'qpdf --password=... --decrypt {shlex.quote(name)} plain.pdf' say"
        )
    text = _NOT_TEXT.sub("\ufffd", "\n\n".join(pages))
    if not text.strip():
        raise DocumentError(
            f"{name!r} is a PDF without text, of {len(pages)} pages; expected text, not pictures "
            f"of it: recognize it, with 'ocrmypdf {shlex.quote(name)} text.pdf' say"
        )
    return text
