"""Which files become which documents, and what the others are told."""

import io
import os
import sys
from pathlib import Path

import pytest
from pypdf import PdfWriter
from pypdf.generic import DictionaryObject, NameObject, StreamObject

from acre_rag.errors import DocumentError
from acre_rag.text.document import Document
from acre_rag.text.files import find_documents, read_documents


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _write(name: str, data: bytes | str) -> str:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return name


def _pdf(*lines: str, password: str | None = None) -> bytes:
    """Draw each line on a page of its own; an empty line draws nothing."""
    writer = PdfWriter()
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
        }
    )
    for line in lines:
        page = writer.add_blank_page(width=300, height=200)
        fonts = DictionaryObject({NameObject("/F1"): font})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        drawing = StreamObject()
        drawing.set_data(f"BT /F1 12 Tf 20 100 Td ({line}) Tj ET".encode() if line else b"")
        page[NameObject("/Contents")] = drawing
    if password is not None:
        writer.encrypt(user_password=password, owner_password="owner", algorithm="RC4-128")
    written = io.BytesIO()
    writer.write(written)
    return written.getvalue()


def _only(paths: str | list[str]) -> Document:
    (document,) = read_documents(paths)
    return document


@pytest.mark.parametrize(
    ("name", "media_type"), [("log.txt", "text/plain"), ("manual.MD", "text/markdown")]
)
def test_text_is_kept_character_for_character(name: str, media_type: str) -> None:
    text = "\ufeff# Größe\r\nA  \rB\n\n\tC 👩‍🔧\u2028\n"
    _write(name, text)

    assert _only([name]) == Document(
        id=name, text=text, metadata={"path": name, "media_type": media_type}
    )


def test_the_id_is_the_path_as_it_was_given() -> None:
    _write("docs/a.txt", "a")

    ids = [document.id for document in read_documents(["./docs/a.txt", Path("docs/a.txt")])]

    assert ids == ["./docs/a.txt", str(Path("docs/a.txt"))]


@pytest.mark.parametrize("folder", ["docs", "docs/", "./docs"])
def test_a_folder_is_walked_in_order_and_gives_only_what_can_be_read(folder: str) -> None:
    for name in ("b.txt", "a/z.md", "a/y.html", "c/d/e.txt"):
        _write(f"docs/{name}", "<p>text</p>")
    for name in (".hidden.txt", ".git/config.txt", "picture.png", "a/code.py", "empty/.keep"):
        _write(f"docs/{name}", "no document")

    ids = [document.id for document in read_documents([folder])]

    names = ["a/y.html", "a/z.md", "b.txt", "c/d/e.txt"]
    assert ids == [f"{folder.rstrip('/')}/{name}" for name in names]


def test_a_link_that_leads_back_up_is_not_followed() -> None:
    _write("docs/a.txt", "a")
    Path("docs/loop").symlink_to(Path("docs").resolve(), target_is_directory=True)

    assert [document.id for document in read_documents(["docs"])] == ["docs/a.txt"]


def test_a_file_named_twice_is_read_once() -> None:
    _write("docs/a.txt", "a")

    ids = [document.id for document in read_documents(["docs", "docs/a.txt", "docs/"])]

    assert ids == ["docs/a.txt"]


def test_a_single_path_may_stand_alone() -> None:
    assert _only(_write("a.txt", "a")).text == "a"


def test_what_is_missing_is_reported_before_anything_is_read() -> None:
    _write("broken.txt", b"\xff")

    with pytest.raises(DocumentError, match=r"found no file 'gone.txt'; expected a file or"):
        next(read_documents(["broken.txt", "gone.txt"]))


def test_documents_come_one_at_a_time() -> None:
    documents = read_documents([_write("a.txt", "a"), _write("b.txt", b"\xff")])

    assert next(documents).text == "a"
    with pytest.raises(DocumentError, match=r"'b.txt' is not UTF-8"):
        next(documents)


def test_a_folder_without_anything_to_read_is_refused() -> None:
    _write("pictures/a.png", "png")

    with pytest.raises(DocumentError, match=r"nothing to read in 'pictures'; expected .txt, .md"):
        list(read_documents(["pictures"]))


def test_a_file_of_another_kind_is_refused() -> None:
    _write("sheet.xlsx", "x")

    with pytest.raises(DocumentError, match=r"'sheet.xlsx' is of an unknown kind; expected .txt"):
        list(read_documents(["sheet.xlsx"]))


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html", "a.pdf"])
def test_an_empty_file_is_refused(name: str) -> None:
    with pytest.raises(DocumentError, match=f"'{name}' is empty; expected text"):
        _only(_write(name, b""))


@pytest.mark.parametrize("name", ["a.txt", "a.html"])
def test_a_blank_file_is_refused(name: str) -> None:
    with pytest.raises(DocumentError, match=f"'{name}' is empty or blank; expected text"):
        _only(_write(name, b" \n "))


@pytest.mark.parametrize("name", ["a.txt", "a.html"])
def test_a_binary_file_is_refused_with_the_place_that_shows_it(name: str) -> None:
    with pytest.raises(DocumentError, match=rf"'{name}' is binary \(a NUL at byte 4\); expected"):
        _only(_write(name, b"\x89PNG\x00\x01"))


def test_a_wrong_encoding_is_named_with_its_place_and_a_way_to_convert() -> None:
    with pytest.raises(DocumentError) as error:
        _only(_write("café menu.txt", "Menü: café".encode("cp1252")))

    assert "byte 0xfc at offset 3" in str(error.value)
    assert "'iconv -f WINDOWS-1252 -t UTF-8 'café menu.txt' > converted'" in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_refused(encoding: str) -> None:
    with pytest.raises(DocumentError, match=r"is (UTF-16|binary)"):
        _only(_write("a.txt", "text".encode(encoding)))


def test_html_becomes_the_text_that_a_reader_sees() -> None:
    page = """<?xml version="1.0" encoding="utf-8"?><html><head><title>T</title>
    <style>p {color: red}</style></head><body><h1>Pump P-7</h1><p>Opens at <b>4.2</b>&nbsp;bar
    &amp; closes.</p><script>let x = "no"</script><table><tr><td>Seal</td><td>EPDM</td></tr>
    </table></body></html>"""

    document = _only(_write("pump.htm", page))

    lines = [line.strip() for line in document.text.splitlines() if line.strip()]
    assert lines == ["Pump P-7", "Opens at 4.2 bar & closes.", "Seal  EPDM"]
    assert document.metadata["media_type"] == "text/html"


def test_html_is_decoded_as_it_declares() -> None:
    page = "<meta charset='windows-1252'><p>Menü</p>".encode("cp1252")

    assert _only(_write("menu.html", page)).text.strip() == "Menü"


@pytest.mark.parametrize(
    ("head", "found"),
    [("", "is not UTF-8"), ("<meta charset=klingon>", "declares the encoding 'klingon'")],
)
def test_html_in_no_known_encoding_is_refused(head: str, found: str) -> None:
    with pytest.raises(DocumentError, match=found):
        _only(_write("menu.html", head.encode() + b"<p>Men\xfc</p>"))


@pytest.mark.parametrize("password", [None, ""])
def test_a_pdf_becomes_the_text_of_its_pages(password: str | None) -> None:
    pdf = _pdf("Opens at 4.2 bar.", "Closes at 3.1 bar.", password=password)

    document = _only(_write("pump.pdf", pdf))

    assert document.text == "Opens at 4.2 bar.\n\nCloses at 3.1 bar."
    assert document.metadata == {"path": "pump.pdf", "media_type": "application/pdf"}


def test_a_pdf_behind_a_password_is_refused() -> None:
    with pytest.raises(DocumentError, match=r"'a.pdf' is an encrypted PDF; .*: decrypt it"):
        _only(_write("a.pdf", _pdf("secret", password="open sesame")))


def test_a_pdf_of_pictures_is_refused() -> None:
    with pytest.raises(DocumentError, match=r"PDF without text, of 2 pages; .*: recognize it"):
        _only(_write("scan.pdf", _pdf("", "")))


@pytest.mark.parametrize("end", [5, 60, 300])
def test_a_broken_pdf_is_refused(end: int) -> None:
    with pytest.raises(DocumentError, match=r"'a.pdf' (cannot be read as PDF|is a PDF without)"):
        _only(_write("a.pdf", _pdf("text")[:end]))


@pytest.mark.parametrize(("name", "library"), [("a.html", "inscriptis"), ("a.pdf", "pypdf")])
def test_a_missing_library_is_named_with_its_extra(
    name: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)

    with pytest.raises(DocumentError, match=rf"without {library}; .*'acre-rag\[files\]'"):
        _only(_write(name, "text"))


def test_a_file_too_large_to_be_meant_is_refused_unread() -> None:
    name = _write("a.txt", "")
    os.truncate(name, 2**30 + 1)

    with pytest.raises(DocumentError, match=r"has 1,073,741,825 bytes; expected at most .*split"):
        _only(name)


def test_a_file_that_cannot_be_opened_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", deny)

    with pytest.raises(DocumentError, match=r"cannot be read \(Permission denied\); .*rights"):
        _only(_write("a.txt", "text"))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("n" * 300 + ".txt", r"cannot be read \(File name too long\); .*: check the path"),
        ("a/" * 3000 + "b.txt", r"cannot be read \(File name too long\); .*: check the path"),
        ("a\0b.txt", r"cannot be read \(embedded null byte\)"),
        (__file__ + "/b.txt", "found no file"),
    ],
)
def test_a_path_that_cannot_be_is_one_clear_error(path: str, message: str) -> None:
    with pytest.raises(DocumentError, match=message) as caught:
        list(read_documents(path))

    assert len(str(caught.value)) < 300


def test_files_are_found_without_being_read() -> None:
    name = _write("docs/a.txt", b"\xff\xfe\0")

    assert find_documents(["docs", name]) == [name]
