"""What the demo counts as a right answer."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def scoring(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("scoring")


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("15 millimetres", True),
        ("At most 15 mm.", True),
        ("15 MM, frozen", True),
        ("15", False),
        ("115 mm", False),
        ("15 mmHg", False),
        ("", False),
    ],
)
def test_both_spellings_of_an_answer_count_and_nothing_else(
    scoring: ModuleType, answer: str, right: bool
) -> None:
    (question,) = (
        entry
        for entry in scoring.load_questions(EXAMPLES / "questions.json")
        if entry.accepted[0] == "15 millimetres"
    )

    assert scoring.is_right(answer, question) is right


def test_every_question_accepts_what_its_document_says(scoring: ModuleType) -> None:
    questions = scoring.load_questions(EXAMPLES / "questions.json")

    assert len(questions) > 20
    for question in questions:
        text = (EXAMPLES / "documents" / question.document).read_text(encoding="utf-8")
        assert scoring.is_right(text, question)
        assert scoring.is_right(question.accepted[0], question)
