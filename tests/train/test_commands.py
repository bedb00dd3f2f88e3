"""Training from the command line, from text to an adapter that is measured."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from acre_rag.cli.app import app
from acre_rag.model.adapter_files import AdapterCard, load_adapter, read_notes, save_adapter
from tests.tiny import HIDDEN, LAYERS, Q_HEADS, tiny_adapter, tiny_local
from tests.train.data import articles, write_lines


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    local = tiny_local("llama")
    local.model.config.max_position_embeddings = 2048  # room for a window of the default size
    local.model.save_pretrained(path)
    local.tokenizer.save_pretrained(path)
    return path


def _run(*words: object) -> str:
    found = CliRunner().invoke(app, ["train", *map(str, words)], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.stdout


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
    assert adapter.refill_score is not None
    assert 0 < adapter.refill_score <= 1
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

    found = load_file(tmp_path / "weights")
    weights = found["selection"]
    assert 0 < float(found["refill_score"]) <= 1
    assert weights.shape == (LAYERS, Q_HEADS, 3)
    assert abs(float(weights.sum()) - 1) < 1e-5


def test_what_auto_goes_by_is_fitted_alone_where_weights_are_kept(
    model: Path, tmp_path: Path
) -> None:
    lines = write_lines(tmp_path / "lines.jsonl.gz", articles() * 6)
    given = tiny_adapter(tiny_local("llama").model.config, dtype=torch.bfloat16)
    save_adapter(given, tmp_path / "given", AdapterCard(base_model="tiny", notes={"steps": 3}))
    line = ("calibrate", lines, "--adapter", tmp_path / "given", "--model", model, "--batches", 2,
            "--scale", 0.01, "--tokens", 1008, "--keep-weights")  # fmt: skip

    scores = []
    for inside in (0.5, 1.0):
        _run(*line, "--out", tmp_path / f"{inside}", "--inside", inside)
        found = load_adapter(tmp_path / f"{inside}")
        scores.append(found.refill_score)
        assert found.selection is not None
        assert torch.equal(found.selection, given.selection)

    files = "adapter_model.safetensors"
    assert (tmp_path / "1.0" / files).read_bytes() == (tmp_path / "given" / files).read_bytes()
    assert read_notes(tmp_path / "1.0") == {"steps": 3, "auto_inside": 1.0}
    assert 0 < scores[1] < scores[0] < 1


def test_weights_that_are_not_there_cannot_be_kept(model: Path, tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "lines.jsonl.gz", articles() * 6)
    given = replace(tiny_adapter(tiny_local("llama").model.config), selection=None)
    save_adapter(given, tmp_path / "given", AdapterCard(base_model="tiny", notes={}))

    said = _fails("calibrate", lines, "--adapter", tmp_path / "given", "--model", model,
                  "--out", tmp_path / "out", "--keep-weights", code=2)  # fmt: skip

    assert "leave out --keep-weights" in said


def test_a_run_takes_lines_as_they_are_and_tells_what_it_was(model: Path, tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "town.jsonl.gz", articles() * 6)
    local = ("--model", model, "--device", "cpu", "--dtype", "float32")

    _run("stage2", lines, "--out", tmp_path / "run", *local, "--steps", 2, "--tokens", 1008,
         "--scale", 0.01, "--window-tokens", 32, "--rank", 2, "--check", lines, "--check-every", 1,
         "--check-limit", 2)  # fmt: skip

    record = json.loads((tmp_path / "run/run.json").read_text(encoding="utf-8"))
    assert record["settings"]["command"] == "stage2"
    assert record["settings"]["LoopSettings"]["steps"] == 2
    assert [data["name"] for data in record["data"]] == ["town.jsonl.gz"] * 2
    assert record["versions"]["torch"]
    assert str(tmp_path) not in json.dumps(record)
    checks = (tmp_path / "run/checks.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in checks] == [1, 2]
    assert all(json.loads(line)["budgets"]["256"]["n"] == 2 for line in checks)
    assert (tmp_path / "run/curves.png").stat().st_size > 1000
    assert load_adapter(tmp_path / "run/adapter").refill_score is None


@pytest.mark.parametrize("method", ["full", "rag"])
def test_a_tuned_baseline_is_measured_beside_the_frozen_one(
    model: Path, tmp_path: Path, method: str
) -> None:
    lines = write_lines(tmp_path / "squad.jsonl.gz", articles() * 6)
    local = ("--model", model, "--device", "cpu", "--dtype", "float32")
    _run("baseline", lines, "--out", tmp_path / "run", *local, "--method", method, "--steps", 2,
         "--scale", 0.01, "--tokens", 1008, "--rank", 2, "--learning-rate", 0.1)  # fmt: skip

    out = tmp_path / "out.json"
    line = ["eval", lines, *local, "--methods", "full,rag-bm25", "--limit", 3, "--timed", 1,
            "--max-document-tokens", 200, "--max-new-tokens", 2, "--budget", 64, "--json", out,
            "--tuned", tmp_path / "run/adapter"]  # fmt: skip
    found = CliRunner().invoke(app, [str(word) for word in line], catch_exceptions=False)

    assert found.exit_code == 0, found.output
    methods = json.loads(out.read_text(encoding="utf-8"))["methods"]
    assert set(methods) == {"full", "rag-bm25", f"{method}+sft"}
    assert methods[f"{method}+sft"]["n"] == 3


def test_a_run_that_was_stopped_goes_on_exactly(model: Path, tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "town.jsonl.gz", articles() * 6)
    line = ("stage2", lines, "--model", model, "--device", "cpu", "--dtype", "float32", "--steps",
            3, "--tokens", 1008, "--scale", 0.01, "--window-tokens", 32, "--rank", 2)  # fmt: skip

    _run(*line, "--out", tmp_path / "whole")
    for _ in range(3):  # one step, and each time no time for more
        _run(*line, "--out", tmp_path / "parts", "--stop-seconds", 0)

    whole, parts = (load_file(tmp_path / f"{n}/checkpoint.safetensors") for n in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


_GOOD = '{"id":"d","context":"a b","qas":[]}\n'


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{not json", "2: "),
        ("[1, 2]", "2: found"),
        ('{"id":"d","qas":[]}', "2: 'context' is missing"),
        ('{"id":"d","context":"a","qas":[{"id":"q","question":"Q?"}]}', "'answers' is missing"),
        ('{"id":"d","context":"a","qas":[{"id":"q","question":"Q?","answers":["z"],'
         '"answer_start":0,"paragraph":0}]}', "answer 'z' is marked at 0, where 'a' stands"),
        ('{"id":"d","context":"a","qas":[{"id":"q","question":"Q?","answers":[" "]}]}',
         "1 whose answer is empty"),
        ('{"id":"d","context":"a","qas":[{"id":"q","question":"Q?","answers":["z"]}]}',
         "1 whose answer is not in the text"),
    ],
)  # fmt: skip
def test_data_that_cannot_be_trained_on_is_named_by_its_line(
    model: Path, tmp_path: Path, line: str, said: str
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text(_GOOD + line + "\n", encoding="utf-8")

    found = _fails("stage2", data, "--out", tmp_path / "run", "--model", model)

    assert found.startswith(f"error: {data}")
    assert said in found
    assert "expected" in found


def test_documents_shorter_than_any_step_are_refused(model: Path, tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "squad.jsonl.gz", articles()[:1])
    texts = tmp_path / "short.txt"
    texts.write_text("a few words", encoding="utf-8")

    asked = _fails("stage2", lines, "--out", tmp_path / "run", "--model", model)
    read = _fails("stage1", texts, "--out", tmp_path / "run", "--model", model)

    assert "expected documents of 1008 tokens" in asked
    assert "expected 7168 tokens or more" in read


def test_an_adapter_of_another_model_is_refused(model: Path, tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "squad.jsonl.gz", articles() * 6)
    other = replace(tiny_adapter(tiny_local("llama").model.config), embedding=torch.zeros(7))
    save_adapter(other, tmp_path / "other", AdapterCard(base_model="other", notes={}))

    found = _fails("stage2", lines, "--out", tmp_path / "run", "--model", model,
                   "--start", tmp_path / "other")  # fmt: skip

    assert "the adapter has" in found


def _fails(*words: object, code: int = 1) -> str:
    found = CliRunner().invoke(app, ["train", *map(str, words)])
    assert found.exit_code == code, found.output
    (line,) = [line for line in found.stderr.splitlines() if line.startswith("error:")]
    return line
