"""`acre explain`, and `--policy` of those that ask."""

from pathlib import Path

import pytest

from acre_rag.cost import ModelSpeeds
from acre_rag.engine import measured
from tests.cli.conftest import Acre, objects
from tests.cli.test_question import QUESTION, shape
from tests.cost.samples import MODEL

PLAN = {
    "plan": str,
    "seconds": float,
    "steps": {"load": float, "select": float, "fetch": float, "answer": float},
    "token_seconds": float,
    "bytes_read": int,
    "encoded_tokens": int,
    "obstacle": str,
}
SCHEMA = {
    "documents": [str],
    "document_tokens": int,
    "question_tokens": int,
    "refill_tokens": int,
    "model": str,
    "machine": str,
    "store": str,
    "plans": [PLAN],
    "cheapest": str,
    "reason": str,
}


@pytest.fixture
def stored(acre: Acre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Acre:
    """The command line over a store with two documents, on a machine of planted constants."""
    monkeypatch.setenv("ACRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(measured, "measure_model", _measure)
    assert acre("ingest", "ferry.txt", "dryer.md").exit_code == 0
    return acre


def _measure(_reader: object) -> ModelSpeeds:
    return MODEL


def test_json_is_one_object_of_the_promised_shape(stored: Acre) -> None:
    result = stored("explain", QUESTION, "--document", "ferry.txt", "--json")

    assert result.exit_code == 0, result.stderr
    (found,) = objects(result.stdout)
    assert shape(found) == SCHEMA
    assert [plan["plan"] for plan in found["plans"]] == ["refill", "recompute", "prefill"]
    assert found["documents"] == ["ferry.txt"]


def test_people_see_a_line_for_each_plan_and_why_one_is_cheapest(stored: Acre) -> None:
    result = stored("explain")

    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("2 documents, ")
    assert [line.split()[0] for line in lines[3:7]] == ["plan", "refill", "recompute", "prefill"]
    assert any(line.startswith("cheapest: ") for line in lines)


def test_asking_by_auto_follows_the_cheapest_plan(stored: Acre) -> None:
    (found,) = objects(stored("explain", QUESTION, "--json").stdout)

    (answer,) = objects(
        stored("ask", QUESTION, "--policy", "auto", "--max-new-tokens", "3", "--json").stdout
    )

    assert answer["plan"] == found["cheapest"]


def test_a_policy_is_followed_and_its_costs_are_told(stored: Acre) -> None:
    line = ("ask", QUESTION, "--max-new-tokens", "3", "--policy", "prefill")

    (answer,) = objects(stored(*line, "--json").stdout)

    assert answer["plan"] == "prefill"
    assert answer["usage"]["encoded_tokens"] == answer["usage"]["document_tokens"]
    assert "the whole text," in stored(*line).stdout


def test_a_machine_is_measured_again_where_that_is_wished(
    stored: Acre, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured_again = []
    stored("explain")
    monkeypatch.setattr(
        measured, "measure_model", lambda _reader: measured_again.append(1) or MODEL
    )

    stored("explain")
    assert not measured_again
    stored("explain", "--measure")
    assert measured_again


@pytest.mark.parametrize(
    ("line", "code", "told"),
    [
        (("explain", "--document", "nowhere.md"), 1, "the store holds no 'nowhere.md'"),
        (("explain", " "), 2, "the question is empty"),
        (("explain", "--refill-tokens", "-3"), 2, "is no number of tokens"),
        (("ask", QUESTION, "--policy", "fastest"), 2, "fastest"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    stored: Acre, line: tuple[str, ...], code: int, told: str
) -> None:
    result = stored(*line)

    assert result.exit_code == code
    assert told in result.stderr
    assert not result.stdout


def test_an_empty_store_is_refused(acre: Acre) -> None:
    result = acre("explain")

    assert result.exit_code == 1
    assert "holds no documents" in result.stderr


def test_help_teaches_the_three_plans(acre: Acre) -> None:
    text = acre("explain", "--help").stdout

    for word in ("refill", "recompute", "prefill", "--policy auto", "--measure", "--json"):
        assert word in text
