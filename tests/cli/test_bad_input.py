"""Whatever is wrong: one clear line, the right exit code, and nothing stored is lost."""

import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from acre_rag.cli import failures
from acre_rag.cli.app import app
from acre_rag.errors import StoreError
from acre_rag.store import directory
from tests.cli.conftest import TEXT, Acre, objects


def check(result: Result, code: int, *expected: str) -> None:
    """Check for one line on standard error, and nothing on the other."""
    lines = [line for line in result.stderr.splitlines() if not line.startswith("note: ")]
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    for words in expected:
        assert words in lines[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; expected text"),
        (b"  \n\t ", "is empty or blank; expected text"),
        (b"GIF\0\1", "is binary"),
        ("Grüße".encode("latin-1"), "is not UTF-8"),
        ("Grüße".encode("utf-16"), "is UTF-16; expected UTF-8"),
    ],
)
def test_a_file_that_is_no_text(acre: Acre, folder: Path, content: bytes, message: str) -> None:
    (folder / "bad.txt").write_bytes(content)

    check(acre("ingest", "bad.txt"), 1, "'bad.txt'", message)


def test_a_missing_path(acre: Acre) -> None:
    check(acre("ingest", "ferry.txt", "nowhere.txt"), 2, "found no file 'nowhere.txt'")
    assert acre("documents", "--json").stdout == ""


def test_a_path_that_can_be_no_file(acre: Acre) -> None:
    check(acre("ingest", ""), 2, "found an empty path; expected a file or a folder")
    check(acre("ingest", "a" * 300 + ".txt"), 2, "File name too long")


def test_an_adapter_that_is_no_directory(acre: Acre) -> None:
    check(acre("ingest", "ferry.txt", "--adapter", "ferry.txt"), 1, "ferry.txt is a file; expected")
    check(acre("ingest", "ferry.txt", "--adapter", ""), 2, "--adapter is empty; expected a dir")


def test_an_empty_document_id(acre: Acre) -> None:
    check(acre("ask", "When?", "--document", ""), 2, "found an empty document id; expected one")


def test_a_form_that_documents_were_not_stored_in(acre: Acre) -> None:
    acre("ingest", "ferry.txt")

    check(acre("ask", "When?", "--stored", "bfloat16"), 1, "--stored and --window-tokens that they")


def test_a_file_of_another_kind(acre: Acre, folder: Path) -> None:
    (folder / "image.png").write_bytes(b"png")

    check(acre("ingest", "image.png"), 2, "'image.png' is of an unknown kind; expected .txt")


def test_a_folder_with_nothing_to_read(acre: Acre, folder: Path) -> None:
    (folder / "hollow").mkdir()

    check(acre("ingest", "hollow"), 1, "found nothing to read in 'hollow'")


def test_a_question_longer_than_the_context(acre: Acre) -> None:
    acre("ingest", "ferry.txt")

    check(acre("ask", TEXT * 12), 1, "tokens", "expected")


def test_an_empty_question(acre: Acre) -> None:
    acre("ingest", "ferry.txt")

    check(acre("ask", " "), 2, "the question is empty")


@pytest.mark.parametrize(
    ("option", "remedy"),
    [
        ("--refill-tokens", "expected refill_tokens from 0 to"),
        ("--max-new-tokens", "max_new_tokens is 5000; prefix and question leave"),
    ],
)
def test_a_budget_that_cannot_fit(acre: Acre, folder: Path, option: str, remedy: str) -> None:
    (folder / "long.txt").write_text(TEXT * 10)
    acre("ingest", "long.txt")

    check(acre("ask", "When?", option, "5000"), 1, remedy)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--refill-tokens", "-1"),
        ("--refill-tokens", "many"),
        ("--max-new-tokens", "0"),
        ("--selection", "random"),
        ("--dtype", "int8"),
        ("--nonsense", "1"),
    ],
)
def test_an_option_that_cannot_be_meant(acre: Acre, option: str, value: str) -> None:
    result = acre("ask", "When?", option, value)

    assert (result.exit_code, result.stdout) == (2, "")
    assert option in result.stderr


def test_an_unknown_model(acre: Acre) -> None:
    result = acre("ingest", "ferry.txt", "--model", "./no-such-model")

    check(result, 1, "found no directory './no-such-model'", "check the path")


def test_an_unknown_adapter(acre: Acre) -> None:
    check(acre("ingest", "ferry.txt", "--adapter", "./nowhere"), 1, "nowhere has no acre_config")


def test_an_unknown_scheme_of_a_store(acre: Acre) -> None:
    result = acre("ingest", "ferry.txt", "--store", "s3://user:secret@bucket")

    check(result, 2, "starts with 's3", "expected a path")
    assert "secret" not in result.output


def test_a_store_that_is_a_file(acre: Acre) -> None:
    check(acre("documents", "--store", "ferry.txt"), 2, "ferry.txt", "expected a directory")


def test_a_store_made_by_another_model(acre: Acre, other_model_path: Path) -> None:
    acre("ingest", "ferry.txt", "--model", str(other_model_path))

    check(acre("ask", "When?"), 1, "holds documents read by", "other weights")
    check(acre("ask", "When?", "--document", "ferry.txt"), 1, "not stored for this model")
    assert acre("ask", "When?", "--model", str(other_model_path)).exit_code == 0


def test_a_store_with_nothing_in_it(acre: Acre) -> None:
    check(acre("ask", "When?"), 1, "holds no documents", "ingest some first")


def test_a_document_that_is_not_stored(acre: Acre) -> None:
    acre("ingest", "ferry.txt")

    check(acre("ask", "When?", "--document", "fery.txt"), 1, "holds no 'fery.txt'")
    check(acre("inspect", "fery.txt"), 1, "holds no 'fery.txt'")


def test_a_damaged_manifest_is_named_and_can_be_deleted_or_read_anew(
    acre: Acre, folder: Path
) -> None:
    acre("ingest", "ferry.txt")
    (manifest,) = (folder / "store").rglob("manifest")
    manifest.write_bytes(manifest.read_bytes()[:-9])

    check(acre("inspect", "ferry.txt"), 1, "ferry.txt")

    assert acre("ingest", "ferry.txt").exit_code == 0
    assert acre("inspect", "ferry.txt").exit_code == 0
    manifest.write_bytes(b"")
    assert acre("delete", "ferry.txt").exit_code == 0


def test_an_old_cache_stays_where_the_new_one_cannot_be_written(
    acre: Acre, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acre("ingest", "ferry.txt")
    (folder / "ferry.txt").write_text("It leaves at ten now.")

    def full(path: Path, *_: object, **__: object) -> None:
        raise StoreError(f"cannot write {path}: found 'No space left on device'")

    with monkeypatch.context() as patch:
        patch.setattr(directory, "put_file", full)
        check(acre("ingest", "ferry.txt"), 1, "No space left on device")

    (facts,) = objects(acre("inspect", "ferry.txt", "--json").stdout)
    assert facts["characters"] == len(TEXT)
    assert acre("ask", "When?", "--max-new-tokens", "3").exit_code == 0


def test_debug_shows_the_error_in_full(acre: Acre) -> None:
    result = acre("ask", "When?", "--debug")

    assert result.exit_code == 1
    assert type(result.exception).__name__ == "DocumentNotFoundError"


def test_an_interruption_is_one_line() -> None:
    typer_app = typer.Typer(cls=failures.CommandGroup)

    @typer_app.command()
    def wait() -> None:
        raise KeyboardInterrupt

    @typer_app.command()
    def other() -> None: ...

    result = CliRunner().invoke(typer_app, ["wait"])

    assert result.exit_code == 130
    assert re.fullmatch("interrupted.*\n", result.stderr)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "memory of this machine is exhausted"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "memory of this machine"),
        (RuntimeError("no\nkernel"), "error: RuntimeError: no kernel; expected"),
    ],
)
def test_the_unexpected_is_one_line_too(
    error: BaseException, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    failures.say_unexpected(type(error), error, None)

    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_every_command_refuses_options_it_does_not_know() -> None:
    for command in ("documents", "inspect", "delete", "verify", "convert", "chat", "ingest"):
        assert CliRunner().invoke(app, [command, "x", "--nonsense"]).exit_code == 2
