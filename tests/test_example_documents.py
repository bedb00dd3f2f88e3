"""The example documents and the questions about them belong together."""

import json
from collections import Counter
from pathlib import Path

import pytest

from acre_rag.text.files import read_documents

_EXAMPLES = Path(__file__).parents[1] / "examples"
_TEXTS = {Path(doc.id).name: doc.text for doc in read_documents([_EXAMPLES / "documents"])}
_QUESTIONS = json.loads((_EXAMPLES / "questions.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("entry", _QUESTIONS, ids=[entry["question"] for entry in _QUESTIONS])
def test_each_answer_stands_word_for_word_in_a_document_it_names(
    entry: dict[str, str | list[str] | None],
) -> None:
    named, answer = entry["document"], entry["answer"]
    documents = [named] if isinstance(named, str) else named or []

    assert set(documents) <= set(_TEXTS)
    if answer is None:
        assert not documents
    else:
        assert any(str(answer) in _TEXTS[name] for name in documents)


def test_each_document_has_six_questions_or_more() -> None:
    asked = Counter(entry["document"] for entry in _QUESTIONS if isinstance(entry["document"], str))

    assert set(asked) == set(_TEXTS)
    assert min(asked.values()) >= 6
