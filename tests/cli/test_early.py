"""What is wrong whatever the model is said before one is loaded, which takes long."""

from pathlib import Path

import pytest

from acre_rag.model.local import LocalModel
from tests.cli.conftest import Acre
from tests.cli.test_bad_input import check


@pytest.fixture
def unloaded(acre: Acre, monkeypatch: pytest.MonkeyPatch) -> Acre:
    """The command line over a store with one document; to load a model now is a failure."""
    acre("ingest", "ferry.txt", "--adapter", "none")

    def load(*_: object, **__: object) -> LocalModel:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(LocalModel, "load", staticmethod(load))
    return acre


@pytest.mark.parametrize("question", ["", " \n", "\ud800"])
def test_a_question_without_words(unloaded: Acre, question: str) -> None:
    check(unloaded("ask", question), 2, "the question")


def test_ids_and_instructions_that_cannot_be_meant(unloaded: Acre) -> None:
    for command in (("ask", "When?"), ("chat",)):
        check(unloaded(*command, "--document", ""), 2, "found an empty document id")
        check(unloaded(*command, "--instructions", "\ud800"), 2, "instructions")


def test_a_document_that_no_model_has_read(unloaded: Acre) -> None:
    line = ("--document", "ferry.txt", "--document", "fery.txt")

    check(unloaded("ask", "When?", *line), 1, "holds no 'fery.txt'; expected an id")
    check(unloaded("chat", *line), 1, "holds no 'fery.txt'; expected an id")


def test_a_store_that_is_empty(unloaded: Acre, folder: Path) -> None:
    place = ("--store", str(folder / "other"))

    check(unloaded("ask", "When?", *place), 1, "holds no documents")
    check(unloaded("chat", *place), 1, "holds no documents")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "'bad.txt' is empty"), (b"GIF\0", "'bad.txt' is binary"), (b"\xe4", "is not UTF-8")],
)
def test_a_text_that_is_none_wherever_it_stands(
    unloaded: Acre, folder: Path, content: bytes, message: str
) -> None:
    (folder / "bad.txt").write_bytes(content)

    check(unloaded("ingest", "ferry.txt", "dryer.md", "bad.txt"), 1, message)


def test_a_page_that_cannot_be_read(unloaded: Acre, folder: Path) -> None:
    (folder / "bad.pdf").write_bytes(b"no PDF")

    check(unloaded("ingest", "bad.pdf"), 1, "'bad.pdf'")


def test_a_store_that_cannot_be_made(unloaded: Acre) -> None:
    place = ("--store", "ferry.txt/store")

    check(unloaded("ingest", "dryer.md", *place), 1, "cannot be written", "is a file", "--store")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a place that root cannot write to")
def test_a_store_where_nothing_can_be_made(unloaded: Acre) -> None:
    check(unloaded("ingest", "dryer.md", "--store", "/proc/x"), 1, "takes no files", "--store")


def test_a_model_that_is_not_there(unloaded: Acre) -> None:
    for command in (("ask", "When?"), ("chat",), ("ingest", "dryer.md"), ("verify",)):
        check(unloaded(*command, "--model", "./none"), 1, "found no directory './none'")


def test_a_step_that_holds_no_whole_intervals(unloaded: Acre) -> None:
    check(unloaded("ask", "When?", "--window-tokens", "100"), 2, "multiple of interval_tokens")
