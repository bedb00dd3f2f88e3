"""A small set of documents and questions, and readers over the tiny Llama."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from acre_rag.evaluate.composing import ComposedDocument, Sampling, compose
from acre_rag.evaluate.dataset import load_dataset
from acre_rag.evaluate.methods import Readers
from acre_rag.model.landmarks import LandmarkAdapter
from acre_rag.model.local import LocalModel
from tests.tiny import tiny_settings

FERRY = (
    "The ferry leaves at nine. It is painted white and red.\n\n"
    "The slip is wet, and the harbour office keeps the keys.\n\n"
    "Anders runs the office. He is there from eight on, and Anders knows the tides."
)
MILL = (
    "The mill grinds barley.\n\nIts wheel stood still in winter, when the river froze over.\n\n"
    "Berta bought the mill from her aunt, and a new wheel from the smith."
)
LINES = (
    {
        "id": "ferry",
        "context": FERRY,
        "qas": [
            {
                "id": "q1",
                "question": "When does the ferry leave?",
                "answers": ["nine", "at nine"],
                "answer_start": FERRY.index("nine"),
                "paragraph": 0,
                "bm25_rank": 1,
            },
            {
                "id": "q2",
                "question": "Who runs the office, and has done so for many years?",
                "answers": ["Anders"],
                "answer_start": FERRY.index("Anders"),
                "paragraph": 2,
                "bm25_rank": 2,
            },
            {"id": "q3", "question": "Is it far?", "answers": ["nobody says"]},
            {"id": "q4", "question": "Why?", "answers": ["", "  "]},
        ],
    },
    {
        "id": "mill",
        "context": MILL,
        "qas": [
            {"id": "q5", "question": "What does it grind?", "answers": ["barley"], "sections": [0]},
            {"id": "q6", "question": "Who bought it?", "answers": ["Berta did"], "sections": ["2"]},
        ],
    },
)


def write_lines(path: Path, lines: Sequence[object]) -> Path:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two documents with five questions that have answers, and one that has none."""
    return write_lines(tmp_path / "data.jsonl", LINES)


@pytest.fixture
def readers(local: LocalModel, adapter: LandmarkAdapter) -> Readers:
    """Readers with landmarks and without."""
    return Readers.over(local, adapter, tiny_settings())


@pytest.fixture
def composed(dataset: Path, readers: Readers) -> list[ComposedDocument]:
    """Both documents as they are, with all of their questions."""
    whole = Sampling(max_document_tokens=None, limit=None)
    return compose(load_dataset(dataset), readers.free.frame, whole)
