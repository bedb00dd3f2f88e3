"""`acre eval` from the command line, on a tiny model in a directory."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from acre_rag.cli.app import app
from acre_rag.evaluate.methods import METHODS
from acre_rag.model.adapter_files import AdapterCard, save_adapter
from tests.tiny import save_tiny_llama, tiny_adapter


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with room for a window of the default size, and its adapter beside it."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    adapter = tiny_adapter(save_tiny_llama(path, 2048), interval_tokens=8)
    save_adapter(adapter, path / "adapter", AdapterCard(base_model="tiny", notes={}))
    return path


def _eval(dataset: Path, model: Path, *arguments: str) -> Result:
    line = ["eval", str(dataset), "--model", str(model), "--dtype", "float32", "--timed", "1"]
    return CliRunner().invoke(app, [*line, "--max-new-tokens", "4", *arguments])


def test_results_rows_and_picture_are_written(dataset: Path, model: Path, tmp_path: Path) -> None:
    out, rows, picture = tmp_path / "out.json", tmp_path / "rows.jsonl", tmp_path / "out.png"
    names = [name for name in METHODS if name != "rag-dense"]

    result = _eval(
        *(dataset, model, "--adapter", str(model / "adapter"), "--methods", ",".join(names)),
        *("--budget", "128", "--budget", "64", "--json", str(out), "--rows", str(rows)),
        *("--picture", str(picture)),
    )

    assert result.exit_code == 0, result.output
    record = json.loads(out.read_text(encoding="utf-8"))
    assert list(record["methods"]) == names
    assert record["methods"] == record["budgets"]["64"]
    assert set(record["budgets"]) == {"64", "128"}
    for name, numbers in record["methods"].items():
        assert numbers["n"] == (4 if name == "oracle" else 5)
        assert {"f1", "em", "contains", "refilled_tokens"} <= set(numbers)
        low, high = numbers["f1_interval"]
        assert low <= numbers["f1"] <= high
        assert ("first_token_ms" in numbers) == (name != "oracle")
    assert record["questions_left_out"] == 1
    lines = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == sum(4 if n == "oracle" else 5 for n in names for _ in "ab") - 5 - 5
    assert picture.stat().st_size > 1000
    assert all(name in result.stdout for name in names)


def test_a_budget_that_methods_find_themselves_stands_beside_the_numbers(
    dataset: Path, model: Path, tmp_path: Path
) -> None:
    out, picture = tmp_path / "out.json", tmp_path / "out.png"

    result = _eval(
        *(dataset, model, "--adapter", str(model / "adapter"), "--timed", "0"),
        *("--methods", "acre,acre-training-free,oracle,landmarks-only,full,rag-bm25"),
        *("--budget", "auto", "--budget", "96", "--json", str(out), "--picture", str(picture)),
    )

    assert result.exit_code == 0, result.output
    budgets = json.loads(out.read_text(encoding="utf-8"))["budgets"]
    assert set(budgets["96"]) == {
        *("acre", "acre-training-free", "oracle", "landmarks-only", "full", "rag-bm25")
    }
    assert set(budgets["auto"]) == {"acre", "acre-training-free"}
    assert all(own["refilled_tokens"] >= 64 for own in budgets["auto"].values())


def test_a_budget_alone_that_methods_find_themselves_leaves_the_others_out(
    dataset: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"

    result = _eval(
        *(dataset, model, "--methods", "acre-training-free,full,rag-bm25", "--budget", "auto"),
        *("--json", str(out)),
    )

    assert result.exit_code == 0, result.output
    methods = json.loads(out.read_text(encoding="utf-8"))["methods"]
    assert set(methods) == {"acre-training-free", "full"}


def test_without_an_adapter_what_needs_one_is_left_out(
    dataset: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"

    result = _eval(
        *(dataset, model, "--methods", "acre-training-free rag-bm25", "--methods", "full"),
        *("--json", str(out), "--limit", "2"),
    )

    assert result.exit_code == 0, result.output
    methods = json.loads(out.read_text(encoding="utf-8"))["methods"]
    assert list(methods) == ["acre-training-free", "rag-bm25", "full"]
    assert {numbers["n"] for numbers in methods.values()} == {2}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--methods", "acre"), "landmark adapter"),
        (("--methods", "bm42"), "expected one of"),
        (("--methods", "full", "--json", "/proc/none/out.json"), "cannot be written"),
        (("--methods", "rag-bm25", "--budget", "8"), "chunk"),
        (("--methods", "rag-bm25", "--budget", "auto"), "budget"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    dataset: Path, model: Path, arguments: tuple[str, ...], said: str
) -> None:
    result = _eval(dataset, model, *arguments)

    assert result.exit_code == 1
    (line,) = [one for one in result.stderr.splitlines() if one.startswith("error:")]
    assert said in line


def test_a_dataset_that_is_not_there_is_a_misuse(tmp_path: Path, model: Path) -> None:
    result = _eval(tmp_path / "none.jsonl", model)

    assert result.exit_code == 2
