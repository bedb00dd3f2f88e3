"""Training from the command line, from text to an adapter that is measured."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

from acre_rag.model.adapter_files import load_adapter
from acre_rag.train.__main__ import app
from tests.tiny import HIDDEN, LAYERS, Q_HEADS, tiny_local
from tests.train.data import articles, write_lines


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    local = tiny_local("llama")
    local.model.save_pretrained(path)
    local.tokenizer.save_pretrained(path)
    return path


def _run(*words: object) -> str:
    found = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.output


def test_from_text_to_a_measured_adapter(model: Path, tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "lines.jsonl.gz", articles() * 6)
    pack, texts = tmp_path / "squad.safetensors", tmp_path / "texts.safetensors"
    local = ("--model", model, "--device", "cpu", "--dtype", "float32")

    _run("prepare-questions", lines, "--out", pack, "--model", model)
    _run("prepare-texts", lines, "--out", texts, "--model", model)
    _run("stage1", texts, "--out", tmp_path / "1", *local, "--steps", 2, "--documents", 1,
         "--window-tokens", 32, "--rank", 2)  # fmt: skip
    _run("stage2", pack, "--out", tmp_path / "2", *local, "--start", tmp_path / "1" / "adapter",
         "--texts", texts, "--text-every", 2, "--text-documents", 1, "--steps", 2,
         "--tokens", 1008, "--scale", 0.01, "--window-tokens", 32, "--rank", 2)  # fmt: skip
    _run("calibrate", pack, "--out", tmp_path / "3", *local, "--adapter", tmp_path / "2/adapter",
         "--batches", 1, "--scale", 0.01, "--tokens", 1008)  # fmt: skip
    said = _run("probe", pack, *local, "--adapter", tmp_path / "3", "--tokens", 256, "--limit", 3,
                "--budgets", "32")  # fmt: skip

    adapter = load_adapter(tmp_path / "3")
    assert adapter.embedding.shape == (HIDDEN,)
    assert adapter.selection is not None
    assert adapter.selection.shape == (LAYERS, Q_HEADS, 3)
    assert json.loads(said)["32"]["n"] == 3


def test_the_training_free_mode_gets_weights_alone(model: Path, tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "lines.jsonl.gz", articles() * 6)
    pack = tmp_path / "squad.safetensors"
    _run("prepare-questions", lines, "--out", pack, "--model", model)

    _run("calibrate", pack, "--out", tmp_path / "weights", "--model", model, "--batches", 1,
         "--scale", 0.01, "--tokens", 1008)  # fmt: skip

    weights = load_file(tmp_path / "weights")["selection"]
    assert weights.shape == (LAYERS, Q_HEADS, 3)
    assert abs(float(weights.sum()) - 1) < 1e-5
