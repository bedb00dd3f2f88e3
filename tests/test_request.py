"""What makes no sense is refused before a model is loaded."""

import subprocess
import sys

import pytest

from acre_rag.errors import ConfigError, DocumentError, StoreError
from acre_rag.request import Request, checked_documents, checked_ids
from acre_rag.text.document import Document
from tests.conftest import MakeEngine

A, B = Document(id="a", text="one"), Document(id="b", text="two")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"question": ""}, "the question is empty; expected some words"),
        ({"question": " \n"}, "the question is empty"),
        ({"question": None}, "the question is of type NoneType; expected a string"),
        ({"question": "caf\udce9"}, "half a surrogate pair at character 3"),
        ({"instructions": 3}, "instructions is of type int"),
        ({"refill_tokens": -1}, "refill_tokens is -1; expected 0 or more: raise it, or leave it"),
        ({"refill_tokens": 2.5}, "refill_tokens is 2.5, of type float; expected a whole number"),
        ({"refill_tokens": True}, "refill_tokens is True, of type bool"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0; expected 1 or more: raise it"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Request(**{"question": "where?"} | settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([], "documents is empty; expected ids, or None to ask all"),
        (5, "documents is of type int"),
        ([A], "of type Document; expected ids, which are strings: pass document.id"),
        (["a", ""], "found an empty document id"),
    ],
)
def test_ids_that_name_nothing_are_refused(documents: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        checked_ids(documents)


def test_ids_are_taken_once_each_in_their_order() -> None:
    assert checked_ids(None) is None
    assert checked_ids("a b") == ("a b",)
    assert checked_ids(name for name in ("b", "a", "b")) == ("b", "a")


@pytest.mark.parametrize("documents", ["x", ["x"], [A, None], 5, {"id": "a", "text": "one"}])
def test_what_is_no_document_is_refused(documents: object) -> None:
    with pytest.raises(DocumentError, match=r"to be read; expected Document\(id=..., text=...\)"):
        list(checked_documents(documents))


def test_documents_come_one_by_one_and_no_id_twice() -> None:
    assert list(checked_documents(A)) == [A]
    given = checked_documents(iter([A, B, A]))

    assert [next(given), next(given)] == [A, B]
    with pytest.raises(DocumentError, match="'a' comes twice"):
        next(given)


def test_the_engine_refuses_them_before_it_looks_at_its_store(make_engine: MakeEngine) -> None:
    engine = make_engine()
    asks = [engine.ask, engine.stream, engine.retrieve]

    for ask in asks:
        with pytest.raises(ConfigError, match="the question is empty"):
            ask(" ")
        with pytest.raises(ConfigError, match="documents is empty"):
            ask("where?", [])
        with pytest.raises(ConfigError, match="refill_tokens is -1"):
            ask("where?", None, -1)
    with pytest.raises(ConfigError, match="sources is 0"):
        engine.retrieve("where?", sources=0)
    with pytest.raises(DocumentError, match="expected Document"):
        engine.ingest(["x"])  # type: ignore[list-item]


def test_an_id_that_is_no_string_is_one_clear_error(make_engine: MakeEngine) -> None:
    engine = make_engine()

    for look in (engine.document, engine.delete, lambda name: list(engine.documents([name]))):
        with pytest.raises(StoreError, match="found a document id of type int; expected a string"):
            look(5)


def test_checking_loads_no_model_library() -> None:
    code = "import sys, acre_rag.request; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
