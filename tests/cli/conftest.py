"""The command line on a tiny model that lies in a directory, each test in a folder of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from acre_rag.cli.app import app
from acre_rag.model.adapter_files import AdapterCard, save_adapter
from tests.tiny import FAMILIES, build, save_tiny_llama, tiny_adapter, tiny_tokenizer

Acre = Callable[..., Result]
Start = Callable[..., "subprocess.Popen[str]"]

TEXT = "The ferry leaves at nine and the slip is wet. Ask the harbour office for the keys. " * 8


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with room for a window of the default size."""
    path = tmp_path_factory.mktemp("models") / "tiny-llama"
    save_tiny_llama(path, 4096)
    return path


@pytest.fixture(scope="session")
def other_model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model but for one weight."""
    path = tmp_path_factory.mktemp("models") / "other-llama"
    config = FAMILIES["llama"]()
    config.max_position_embeddings = 4096
    model = build(config)
    with torch.no_grad():
        model.get_input_embeddings().weight[0, 0] += 1
    model.save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def adapter_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A landmark adapter for the tiny Llama, with an interval of its own."""
    path = tmp_path_factory.mktemp("adapters") / "tiny"
    adapter = tiny_adapter(FAMILIES["llama"](), interval_tokens=8)
    save_adapter(adapter, path, AdapterCard(base_model="tiny-llama", notes={}))
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that commands are run in, with a store beside it and two files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACRE_STORE", str(tmp_path / "store"))
    (tmp_path / "ferry.txt").write_text(TEXT, encoding="utf-8")
    (tmp_path / "dryer.md").write_text(
        "# Dryer\n\nThe dryer stands on the east side.\n" * 6, encoding="utf-8"
    )
    return tmp_path


@pytest.fixture
def acre(folder: Path, model_path: Path) -> Acre:
    """Run `acre` in this process; questions and ingestion get the tiny model if none is named."""
    del folder  # it has become the working directory

    def run(command: str, *arguments: str, stdin: str = "") -> Result:
        line = [command, *arguments]
        if command in {"ingest", "ask", "chat", "explain", "verify"}:
            line = with_model(line, model_path)
        return CliRunner().invoke(app, line, input=stdin)

    return run


@pytest.fixture
def start(folder: Path, model_path: Path) -> Start:
    """Start `acre` as a process of its own."""

    def begin(
        command: str, *arguments: str, limit: Callable[[], None] | None = None
    ) -> "subprocess.Popen[str]":
        code = "from acre_rag.cli import main; main()"
        line = [command, *arguments]
        if command in {"ingest", "ask", "chat", "explain", "verify"}:
            line = with_model(line, model_path)
        root = Path(__file__).parents[2]

        def prepare() -> None:
            # A shell that runs the tests in the background has told its children to ignore Ctrl-C.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if limit is not None:
                limit()

        return subprocess.Popen(
            [sys.executable, "-c", code, *line],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=prepare,  # noqa: PLW1509  # sets the process up, and no more
        )

    return begin


def with_model(line: Sequence[str], model_path: Path) -> list[str]:
    """Add the tiny model to a command that names none."""
    added = [] if "--model" in line else ["--model", str(model_path)]
    return [*line, *added, *([] if "--dtype" in line else ["--dtype", "float32"])]


def objects(output: str) -> list[dict[str, Any]]:
    """Read JSON objects, one a line."""
    return [json.loads(line) for line in output.splitlines()]
