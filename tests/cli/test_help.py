"""`acre --help` teaches, and comes at once."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

import acre_rag
from acre_rag.cli.app import app

COMMANDS = ("ingest", "ask", "chat", "documents", "inspect", "delete", "verify", "convert")


def test_help_names_every_command_and_a_way_to_begin() -> None:
    result = CliRunner().invoke(app, ["--help"])

    assert result.exit_code == 0
    assert "acre ingest manual.md" in result.stdout
    for command in COMMANDS:
        assert f" {command} " in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_shows_an_example(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])

    assert result.exit_code == 0
    assert f"acre {command}" in result.stdout.partition("example:")[2]


def test_the_version_is_told() -> None:
    result = CliRunner().invoke(app, ["--version"])

    assert (result.exit_code, result.stdout) == (0, f"acre {acre_rag.__version__}\n")


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys; import acre_rag.cli.app; "
        "print({'torch', 'transformers', 'numpy', 'rich'} & set(sys.modules))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=240
    )

    assert done.stdout == "set()\n"
