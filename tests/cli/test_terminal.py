"""`acre chat` on a terminal of its own: prompts and Ctrl-C."""

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.cli.conftest import Acre

Chat: TypeAlias = "tuple[int, subprocess.Popen[bytes]]"

CTRL_C = b"\x03"
PATIENCE = 10.0
"""Seconds of silence after which Ctrl-C is pressed again."""


@pytest.fixture
def chat(acre: Acre, model_path: Path, folder: Path) -> Iterator[Chat]:
    """A chat over one document, and the other end of its terminal."""
    acre("ingest", "ferry.txt", "--adapter", "none")
    ours, theirs = pty.openpty()

    def take_terminal() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    code = "from acre_rag.cli import main; main()"
    options = ("--model", str(model_path), "--dtype", "float32", "--adapter", "none")
    process = subprocess.Popen(
        [sys.executable, "-c", code, "chat", "--max-new-tokens", "3000", *options],
        cwd=folder,
        env=os.environ
        | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1", "TERM": "dumb"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=take_terminal,  # noqa: PLW1509  # sets the process up, and no more
    )
    os.close(theirs)
    yield ours, process
    process.kill()
    process.wait()
    os.close(ours)


def read_until(terminal: int, found: Callable[[str], bool]) -> str:
    """Read what is shown until it is what was waited for; the test's time-out ends it else."""
    shown = b""
    while not found(shown.decode(errors="replace")):
        shown += os.read(terminal, 4096)
    return shown.decode(errors="replace")


def interrupt_until(terminal: int, found: Callable[[str], bool]) -> str:
    """Press Ctrl-C until what is shown is what was waited for.

    One press may be lost: readline shows its prompt a moment before it listens for signals, and
    Python drops what is raised while an object is being collected.
    """
    shown = b""
    while not found(shown.decode(errors="replace")):
        os.write(terminal, CTRL_C)
        while select.select([terminal], [], [], PATIENCE)[0]:
            shown += os.read(terminal, 4096)
            if found(shown.decode(errors="replace")):
                break
    return shown.decode(errors="replace")


def test_ctrl_c_stops_an_answer_and_gives_the_prompt_back(
    chat: Chat,
) -> None:
    terminal, process = chat
    read_until(terminal, lambda shown: shown.endswith("? "))

    os.write(terminal, b"When does it leave?\n")
    read_until(terminal, lambda shown: len(shown.partition("leave?")[2].strip()) > 3)
    interrupt_until(terminal, lambda shown: bool(re.search(r"stopped; [^?]*\? $", shown)))
    shown = interrupt_until(terminal, lambda shown: "interrupted" in shown)

    assert process.wait(timeout=240) == 130
    assert "kept" not in shown


def test_the_end_of_the_input_leaves(chat: Chat) -> None:
    terminal, process = chat
    read_until(terminal, lambda shown: shown.endswith("? "))

    os.write(terminal, b"\x04")

    assert process.wait(timeout=240) == 0
