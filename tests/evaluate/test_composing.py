"""Documents get the length that is asked for, and questions keep their gold."""

from pathlib import Path

import pytest

from acre_rag.errors import ConfigError
from acre_rag.evaluate.composing import ComposedDocument, Sampling, compose
from acre_rag.evaluate.dataset import QADocument, Question, load_dataset
from acre_rag.evaluate.methods import Readers
from tests.evaluate.conftest import FERRY, MILL


def _ids(documents: list[ComposedDocument]) -> list[str]:
    return [question.id for document in documents for question in document.questions]


def test_a_long_document_is_cut_and_loses_the_questions_behind_the_cut(
    dataset: Path, readers: Readers
) -> None:
    tokens = len(readers.free.frame.encode_with_offsets(FERRY.split("\n\n")[0])[0])

    composed = compose(
        load_dataset(dataset), readers.free.frame, Sampling(max_document_tokens=tokens, limit=None)
    )

    assert len(composed[0].tokens.ids) <= tokens
    assert FERRY.startswith(composed[0].text)
    assert _ids(composed) == ["q1", "q5"]


def test_a_short_document_is_filled_up_with_the_next_ones(dataset: Path, readers: Readers) -> None:
    composed = compose(
        load_dataset(dataset), readers.free.frame, Sampling(max_document_tokens=150, limit=None)
    )

    assert composed[1].text.startswith(MILL + "\n\n" + FERRY[:20])
    assert len(composed[1].tokens.ids) == 150
    assert {question.id for question in composed[1].questions} == {"q5", "q6"}


def test_a_set_that_is_too_short_is_filled_up_once_and_no_further(
    dataset: Path, readers: Readers
) -> None:
    composed = compose(load_dataset(dataset), readers.free.frame, Sampling(limit=None))

    assert composed[0].text == FERRY + "\n\n" + MILL


def test_questions_within_are_the_same_for_every_length(dataset: Path, readers: Readers) -> None:
    documents, frame = load_dataset(dataset), readers.free.frame

    drawn = [
        _ids(compose(documents, frame, Sampling(max_document_tokens=t, questions_within=60)))
        for t in (60, 100, 150)
    ]

    assert drawn[0] == drawn[1] == drawn[2] != []


def test_a_question_whose_marked_occurrence_is_cut_off_is_not_asked(readers: Readers) -> None:
    text = "red one. blue two. red three."
    question = Question(
        id="q", text="Which?", answers=("red",), occurrences=((19, 22), (0, 3)), marked=True
    )
    document = QADocument(id="d", text=text, questions=(question,))

    with pytest.raises(ConfigError, match="no question"):
        compose([document], readers.free.frame, Sampling(max_document_tokens=6))


def test_ambiguous_questions_are_not_asked(readers: Readers) -> None:
    questions = tuple(
        Question(id=str(rank), text="Q?", answers=("red",), bm25_rank=rank) for rank in (1, 3, 4)
    )
    document = QADocument(id="d", text="red", questions=questions)

    assert _ids(compose([document], readers.free.frame, Sampling())) == ["1", "3"]


def test_draws_depend_on_the_seed_alone(readers: Readers) -> None:
    questions = tuple(Question(id=str(i), text="Q?", answers=("red",)) for i in range(40))
    documents = [QADocument(id="d", text="red", questions=questions)]
    frame = readers.free.frame

    first, again, other = (
        _ids(compose(documents, frame, Sampling(limit=9, seed=seed))) for seed in (1, 1, 2)
    )

    assert first == again != other
    assert len(first) == len(set(first)) == 9


def test_few_questions_of_each_document_take_few_documents(readers: Readers) -> None:
    documents = [
        QADocument(
            id=f"d{d}",
            text="red",
            questions=tuple(Question(id=f"{d}-{i}", text="Q?", answers=("red",)) for i in range(9)),
        )
        for d in range(5)
    ]

    composed = compose(documents, readers.free.frame, Sampling(limit=7, questions_per_document=3))

    assert sorted(len(document.questions) for document in composed) == [1, 3, 3]


@pytest.mark.parametrize("name", ["limit", "max_document_tokens", "questions_per_document"])
def test_numbers_below_one_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Sampling(**{name: 0})
