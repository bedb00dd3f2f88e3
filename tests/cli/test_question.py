"""`acre ask` and `acre chat`."""

import inspect
from pathlib import Path
from typing import Any

import pytest

from acre_rag.cli.groups import QuestionOptions
from acre_rag.engine import ACREEngine
from tests.cli.conftest import TEXT, Acre, objects

QUESTION = "When does the ferry leave?"

SCHEMA: dict[str, Any] = {
    "answer": str,
    "plan": str,
    "sources": [{"document": str, "start": int, "end": int, "score": float, "text": str}],
    "usage": dict.fromkeys(
        (
            *("document_tokens", "landmarks", "refilled_tokens"),
            *("encoded_tokens", "recomputed_tokens", "bytes_read"),
        ),
        int,
    ),
    "seconds": dict.fromkeys(("load", "select", "fetch", "first_token", "total"), float),
}


def shape(value: object) -> object:
    """Give the types of a JSON value; of a list, those of its first entry."""
    if isinstance(value, dict):
        return {name: shape(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [shape(entry) for entry in value[:1]]
    return type(value)


@pytest.fixture
def stored(acre: Acre) -> Acre:
    """The command line over a store with two documents."""
    assert acre("ingest", "ferry.txt", "dryer.md").exit_code == 0
    return acre


def test_json_is_one_object_of_the_promised_shape(stored: Acre) -> None:
    result = stored("ask", QUESTION, "--json", "--max-new-tokens", "5")

    assert result.exit_code == 0
    (answer,) = objects(result.stdout)
    assert shape(answer) == SCHEMA


def test_an_answer_reads_from_the_store_and_encodes_nothing(stored: Acre) -> None:
    (answer,) = objects(stored("ask", QUESTION, "--json", "--max-new-tokens", "3").stdout)

    assert answer["usage"]["encoded_tokens"] == answer["usage"]["recomputed_tokens"] == 0
    assert answer["usage"]["bytes_read"] > 0
    assert 0 < answer["seconds"]["first_token"] <= answer["seconds"]["total"]


def test_sources_are_characters_of_the_file(stored: Acre, folder: Path) -> None:
    (answer,) = objects(stored("ask", QUESTION, "--json", "--max-new-tokens", "3").stdout)

    for source in answer["sources"]:
        text = (folder / source["document"]).read_text(encoding="utf-8")
        assert text[source["start"] : source["end"]] == source["text"]


def test_a_question_asks_only_the_documents_named(stored: Acre) -> None:
    line = ("ask", QUESTION, "--json", "--max-new-tokens", "3")

    (one,) = objects(stored(*line, "--document", "ferry.txt").stdout)
    (two,) = objects(stored(*line, "--document", "ferry.txt", "--document", "dryer.md").stdout)

    assert {source["document"] for source in one["sources"]} == {"ferry.txt"}
    assert two["usage"]["document_tokens"] > one["usage"]["document_tokens"]


def test_refill_tokens_bound_what_is_brought_back(stored: Acre) -> None:
    line = ("ask", QUESTION, "--json", "--max-new-tokens", "3", "--refill-tokens")

    (answer,) = objects(stored(*line, "48").stdout)

    assert 0 < answer["usage"]["refilled_tokens"] <= 48


def test_people_see_answer_sources_and_costs(stored: Acre) -> None:
    result = stored("ask", QUESTION, "--document", "ferry.txt", "--max-new-tokens", "5")

    assert result.exit_code == 0
    assert "sources" in result.stdout
    assert "  ferry.txt " in result.stdout
    assert "score 0." in result.stdout
    assert " s to the first token, " in result.stdout.splitlines()[-1]
    assert " kB read for " in result.stdout.splitlines()[-1]


def test_no_refill_shows_that_no_text_was_brought_back(stored: Acre, adapter_path: Path) -> None:
    with_adapter = ("--adapter", str(adapter_path))
    stored("ingest", "ferry.txt", *with_adapter)

    result = stored("ask", QUESTION, "--refill-tokens", "0", *with_adapter)

    assert result.exit_code == 0
    assert "landmarks alone" in result.stdout


def test_the_published_rule_can_be_asked_for(stored: Acre) -> None:
    result = stored("ask", QUESTION, "--selection", "published", "--json", "--max-new-tokens", "3")

    assert shape(objects(result.stdout)[0]) == SCHEMA


def test_instructions_need_no_other_cache(stored: Acre) -> None:
    line = ("ask", QUESTION, "--json", "--max-new-tokens", "3")

    (answer,) = objects(stored(*line, "--instructions", "Answer in one word.").stdout)

    assert answer["usage"]["encoded_tokens"] == 0


def test_the_longest_answer_is_that_of_the_engine() -> None:
    theirs = inspect.signature(ACREEngine.ask).parameters["max_new_tokens"].default

    assert theirs == QuestionOptions().max_new_tokens


def test_chat_answers_each_line_of_its_input(stored: Acre) -> None:
    lines = f"{QUESTION}\n\nWhere does the dryer stand?\n"

    result = stored("chat", "--json", "--max-new-tokens", "3", stdin=lines)

    assert result.exit_code == 0
    assert [shape(answer) for answer in objects(result.stdout)] == [SCHEMA, SCHEMA]


def test_chat_goes_on_after_a_question_that_does_not_fit(stored: Acre) -> None:
    lines = f"{TEXT * 12}\n{QUESTION}\n"

    result = stored("chat", "--json", "--max-new-tokens", "3", stdin=lines)

    assert result.exit_code == 0
    assert len(objects(result.stdout)) == 1
    assert "error: " in result.stderr


def test_a_line_that_leaves_ends_a_piped_chat(stored: Acre) -> None:
    result = stored("chat", "--json", "--max-new-tokens", "3", stdin="When?\nexit\nWhere?\n")

    assert len(objects(result.stdout)) == 1
