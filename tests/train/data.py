"""Small data for the tests of training, and the setup they share."""

import gzip
import json
from pathlib import Path

from acre_rag.config import Prompt
from acre_rag.model.local import LocalModel
from acre_rag.model.prompt import PromptFrame
from acre_rag.train.packs import QuestionPack
from acre_rag.train.prepare import pack_questions
from acre_rag.train.setup import LandmarkSettings, Setup, open_setup
from tests.tiny import tiny_local

INTERVAL, WINDOW, RANK = 4, 24, 3
TOWNS = ("Avon", "Bern", "Cork", "Dax", "Enna", "Fano")


def articles() -> list[dict[str, object]]:
    """Make articles of several paragraphs, each with a question about its own town."""
    found = []
    for number in range(3):
        paragraphs = [f"The mayor of {t} is called {t.lower()}{number}." for t in TOWNS]
        starts = [sum(len(p) + 2 for p in paragraphs[:i]) for i in range(len(paragraphs))]
        questions = [
            {
                "id": f"{number}-{i}",
                "question": f"Who is mayor of {town}?",
                "answers": [f"{town.lower()}{number}"],
                "paragraph": i,
                "answer_start": starts[i] + paragraphs[i].index(f"{town.lower()}{number}"),
                "bm25_rank": 1,
            }
            for i, town in enumerate(TOWNS)
        ]
        found.append({"id": str(number), "context": "\n\n".join(paragraphs), "qas": questions})
    return found


def write_lines(path: Path, lines: list[dict[str, object]]) -> Path:
    """Write gzipped JSON lines."""
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    return path


def make_pack(directory: Path, local: LocalModel) -> QuestionPack:
    """Tokenize the articles."""
    path = write_lines(directory / "articles.jsonl.gz", articles())
    return pack_questions(path, PromptFrame(local.tokenizer, Prompt()), answer_tokens=24)[0]


def make_setup(family: str = "llama", rank: int = RANK, question_landmarks: int = 0) -> Setup:
    """Make a new adapter for a tiny model; a model of its own, since training freezes it."""
    landmarks = LandmarkSettings(
        rank=rank,
        interval_tokens=INTERVAL,
        window_tokens=WINDOW,
        question_landmarks=question_landmarks,
    )
    return open_setup(tiny_local(family), landmarks)
