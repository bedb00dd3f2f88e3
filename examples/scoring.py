"""The questions about the example documents, and what counts as an answer to them."""

import json
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question of one document.

    Attributes:
        question: What is asked.
        document: Name of the document that tells.
        accepted: Spellings of the answer; the first is the document's own.
    """

    question: str
    document: str
    accepted: tuple[str, ...]


def load_questions(path: Path) -> list[Question]:
    """Read the questions that one document answers."""
    return [
        Question(
            question=entry["question"],
            document=entry["document"],
            accepted=(entry["answer"], *entry.get("accepted", ())),
        )
        for entry in json.loads(path.read_text(encoding="utf-8"))
        if isinstance(entry["document"], str)
    ]


def is_right(answer: str, question: Question) -> bool:
    """Look for an accepted spelling in an answer, as words of their own: 64 is not in 640."""
    return any(
        re.search(rf"(?<!\w){re.escape(accepted)}(?!\w)", answer, flags=re.IGNORECASE)
        for accepted in question.accepted
    )
