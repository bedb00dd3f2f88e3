"""`benchmarks/langchain_first_token.py`, small: what it times, keeps and prints."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding

from acre_rag import LocalModel
from benchmarks.langchain_first_token import measured, timed
from benchmarks.rounds import Record, Round, Run, machine, now
from tests.conftest import MakeEngine
from tests.integrations.conftest import TALKER_SETTINGS


def a_round(tokens: int, *, first: float | None, total: float) -> Round:
    run = Run(first_token=first, total=total, answer="at\nnine" if first else "")
    return Round(
        tokens=tokens,
        document_tokens=tokens,
        method="landmarks",
        prepare={"acre": 7.0},
        runs={"acre": run, "stuffed": run},
        date="2026-11-24T00:00:00+00:00",
        load=0.1,
    )


def test_every_chain_is_timed_over_the_same_document(
    make_engine: MakeEngine, talker: LocalModel
) -> None:
    embeddings = DeterministicFakeEmbedding(size=4)

    (one,) = measured(
        lambda store: make_engine(model=talker, store=store, config=TALKER_SETTINGS),
        embeddings,
        tokens=90,
        repeats=1,
    )

    assert one.tokens == 90
    assert abs(one.document_tokens - 90) < 2
    assert set(one.prepare) == {"acre", "vector_store"}
    assert set(one.runs) == {"acre", "acre_again", "stuffed", "vector_store"}
    for run in one.runs.values():
        assert run.answer
        assert run.first_token is not None
        assert 0 < run.first_token < run.total


def test_an_answer_without_text_has_no_first_token() -> None:
    def silent(_: str) -> Iterator[str]:
        yield from ("", " ")

    run = timed(silent, "?")

    assert (run.first_token, run.answer) == (None, "")
    assert timed(lambda _: iter(["", "nine"]), "?").first_token is not None


def test_a_file_keeps_rounds_as_they_end_and_is_added_to(tmp_path: Path) -> None:
    path = tmp_path / "rounds.json"
    setup = {"model": "tiny", "dtype": "float32", "stored_dtype": "int8", **machine()}
    record = Record.open(path, setup)
    record.add(a_round(4000, first=1.0, total=2.0))

    again = Record.open(path, setup)

    assert again.rounds == record.rounds
    assert (again.count(4000), again.count(8000)) == (1, 0)
    assert list(tmp_path.iterdir()) == [path]
    assert {"commit", "cpu", "torch"} <= json.loads(path.read_text())["setup"].keys()
    assert "tiny in float32, caches in int8" in again.caption()
    assert again.caption().endswith("medians of 1 rounds (`rounds.json`):")
    assert now()["date"].endswith("+00:00")
    with pytest.raises(SystemExit, match="holds rounds of another model; expected the same"):
        Record.open(path, {**setup, "model": "large"})


def test_the_table_tells_medians_and_hides_no_missing_answer(tmp_path: Path) -> None:
    record = Record(tmp_path / "rounds.json", {}, [])
    for total in (2.0, 9.0, 3.0):
        record.add(a_round(4000, first=total / 2, total=total))
    record.add(a_round(8000, first=1.0, total=2.0))
    record.add(a_round(8000, first=None, total=4.0))

    assert list(record.table())[2:] == [
        "| 4,000 | `acre` | 7.0 | 1.50 | 3.00 | at nine |",
        "| 4,000 | `stuffed` | - | 1.50 | 3.00 | at nine |",
        "| 8,000 | `acre` | 7.0 | - | 3.00 | (none) |",
        "| 8,000 | `stuffed` | - | - | 3.00 | (none) |",
    ]
