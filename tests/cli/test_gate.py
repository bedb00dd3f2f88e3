"""`acre verify` and `acre convert`."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from acre_rag.engine import verify as gate
from acre_rag.model.reader import DocumentReader
from tests.cli.conftest import Acre, objects
from tests.tiny import HEAD_DIM, HIDDEN, KV_HEADS, LAYERS, Q_HEADS


@pytest.fixture
def checkpoint(folder: Path) -> Path:
    """A checkpoint with the key names of ACRE's authors."""
    tensors = {"model.acre_embed_tokens.weight": torch.randn(1, HIDDEN)}
    for layer in range(LAYERS):
        for name, heads in (("q", Q_HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
            key = f"model.layers.{layer}.self_attn.acre_{name}_proj.weight"
            tensors[key] = torch.randn(heads * HEAD_DIM, HIDDEN)
    path = folder / "published"
    path.mkdir()
    save_file(tensors, path / "model.safetensors")
    return path


def test_verify_passes_on_a_model_that_is_read_rightly(acre: Acre, adapter_path: Path) -> None:
    result = acre("verify", "--adapter", str(adapter_path))

    assert result.exit_code == 0
    assert "float32" in result.stdout
    assert " ok" in result.stdout


def test_verify_prints_one_object_for_programs(acre: Acre) -> None:
    (report,) = objects(acre("verify", "--json").stdout)

    assert report["passed"] is True
    assert report["comparisons"][0].keys() >= {"name", "difference", "tolerance"}


def test_verify_exits_with_1_where_a_difference_is_out_of_tolerance(
    acre: Acre, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare = gate.verify

    def strict(reader: DocumentReader) -> gate.Report:
        report = compare(reader)
        comparisons = tuple(replace(c, tolerance=-1.0) for c in report.comparisons)
        return replace(report, comparisons=comparisons)

    monkeypatch.setattr(gate, "verify", strict)

    result = acre("verify")

    assert result.exit_code == 1
    assert "FAILED" in result.stdout


def test_a_converted_checkpoint_reads_and_answers(acre: Acre, checkpoint: Path) -> None:
    converted = acre("convert", str(checkpoint), "--output", "adapter")
    ingested = acre("ingest", "ferry.txt", "--adapter", "adapter")
    asked = acre("ask", "When?", "--adapter", "adapter", "--json", "--max-new-tokens", "3")

    assert [result.exit_code for result in (converted, ingested, asked)] == [0, 0, 0]
    assert objects(asked.stdout)[0]["usage"]["landmarks"] > 0


def test_the_adapter_is_called_after_its_checkpoint(
    acre: Acre, checkpoint: Path, folder: Path
) -> None:
    acre("convert", str(checkpoint))

    assert (folder / "published-adapter" / "acre_config.json").exists()


def test_convert_overwrites_nothing(acre: Acre, checkpoint: Path) -> None:
    result = acre("convert", str(checkpoint), "--output", ".")

    assert result.exit_code == 2
    assert "expected a new directory" in result.stderr


def test_convert_refuses_what_is_no_checkpoint(acre: Acre) -> None:
    assert acre("convert", "nowhere").exit_code == 2
    assert acre("convert", "ferry.txt").exit_code == 1
