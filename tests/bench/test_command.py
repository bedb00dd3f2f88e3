"""`acre bench` from the command line, on a tiny model in a directory."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from acre_rag.cli.app import app
from tests.tiny import save_tiny_llama


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with room for a window of the default size."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    save_tiny_llama(path, 2048)
    return path


def _bench(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["bench", *map(str, arguments)])


def test_parts_are_measured_written_and_merged(model: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "out", tmp_path / "page.md"
    line = ("--model", model, "--dtype", "float32", "--tokens", 100, "--rounds", 1)

    measured = _bench(*line, "--part", "machine", "--part", "encode", "--json", out)
    merged = _bench("report", out, "--markdown", page, "--pictures", tmp_path / "drawn")

    assert measured.exit_code == 0, measured.output
    assert merged.exit_code == 0, merged.output
    assert sorted(path.name for path in out.iterdir()) == ["encode.json", "machine.json"]
    record = json.loads((out / "encode.json").read_text(encoding="utf-8"))
    assert record["findings"]["comparisons"][0]["ratio"]["median"] > 0
    assert "plain prefill in chunks of 1024" in measured.stdout
    text = page.read_text(encoding="utf-8")
    assert text.index("What the machine can do") < text.index("Encoding")
    assert (tmp_path / "drawn" / "encode.png").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--part", "fetch"], "no part called 'fetch'"),
        (["--json", __file__, "--part", "machine"], "is a file; expected a folder"),
        (["--rounds", "0"], "--rounds"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_a_model_is_loaded(
    arguments: list[str], words: str
) -> None:
    result = _bench("--model", "there/is/none", *arguments)

    assert result.exit_code == 2
    assert words in result.stderr


def test_a_report_of_no_part_is_refused(tmp_path: Path) -> None:
    result = _bench("report", tmp_path / "none.json")

    assert result.exit_code == 1
    assert "is no part of a measurement" in result.stderr
