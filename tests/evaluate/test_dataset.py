"""Data sets are read as they are, and what is malformed is named by its line."""

import gzip
import json
from pathlib import Path

import pytest

from acre_rag.errors import DocumentError
from acre_rag.evaluate.dataset import load_dataset
from tests.evaluate.conftest import FERRY, LINES, MILL, write_lines


def test_gold_occurrences_are_looked_for_in_the_gold_paragraph_alone(dataset: Path) -> None:
    first, second = load_dataset(dataset)[0].questions[:2]

    assert [FERRY[a:b] for a, b in first.occurrences] == ["nine", "at nine"]
    assert [FERRY[a:b] for a, b in second.occurrences] == ["Anders", "Anders"]
    assert second.marked
    assert second.evidence == ((FERRY.index("Anders"), len(FERRY)),)


def test_an_answer_without_a_place_is_looked_for_everywhere(tmp_path: Path) -> None:
    line = {"id": "d", "context": "a red fox, Red foxes", "qas": []}
    line["qas"] = [{"id": "q", "question": "Colour?", "answers": ["red"]}]

    question = load_dataset(write_lines(tmp_path / "d.jsonl", [line]))[0].questions[0]

    assert question.occurrences == ((2, 5), (11, 14))
    assert not question.marked


def test_a_question_without_an_answer_is_left_out_and_counted(dataset: Path) -> None:
    ferry = load_dataset(dataset)[0]

    assert [question.id for question in ferry.questions] == ["q1", "q2", "q3"]
    assert ferry.unanswered == 1


def test_an_answer_that_is_not_in_the_text_keeps_its_evidence(dataset: Path) -> None:
    told = load_dataset(dataset)[1].questions[1]

    assert told.occurrences == ()
    assert [MILL[a:b] for a, b in told.evidence] == [MILL.split("\n\n")[2]]


def test_turns_are_lines_given_as_numbers_or_as_text(tmp_path: Path) -> None:
    asked = {"id": "q", "question": "What?", "answers": ["x"], "turns": [["1", 2], [0, 9]]}
    line = {"id": "d", "context": "A: one\nB: two\nC: three", "qas": [asked]}

    question = load_dataset(write_lines(tmp_path / "d.jsonl", [line]))[0].questions[0]

    assert question.evidence == ((7, 22), (0, 22))


def test_records_become_a_question_for_the_value_of_their_key(tmp_path: Path) -> None:
    line = {
        "id": "kv",
        "ordered_kv_records": [["k1", "v1"], ["k2", "v2"]],
        "key": "k2",
        "value": "v2",
    }

    document = load_dataset(write_lines(tmp_path / "kv.jsonl", [line]))[0]

    (start, end), question = document.questions[0].occurrences[0], document.questions[0]
    assert json.loads(document.text) == {"k1": "v1", "k2": "v2"}
    assert document.text[start:end] == "v2"
    assert question.answers == ("v2",)
    assert "k2" in question.text


def test_gzipped_and_plain_files_give_the_same(dataset: Path, tmp_path: Path) -> None:
    zipped = tmp_path / "data.jsonl.gz"
    zipped.write_bytes(gzip.compress(dataset.read_bytes()))

    assert load_dataset(zipped) == load_dataset(dataset)


@pytest.mark.parametrize(
    "line",
    [
        "{not json",
        "[1, 2]",
        '{"id": "d", "qas": []}',
        '{"id": 3, "context": "text", "qas": []}',
        '{"id": "d", "context": "text", "qas": "none"}',
        '{"id": "d", "context": "text", "qas": [{"id": "q", "question": "Q?"}]}',
        '{"id": "d", "context": "text", "qas": [7]}',
        '{"id": "d", "context": "text", "qas": [{"id": "q", "question": "Q?", "answers": "a"}]}',
        '{"id":"d","context":"t","qas":[{"id":"q","question":"Q?","answers":["a"],"paragraph":5}]}',
        '{"id": "kv", "ordered_kv_records": [["a", "b"]], "key": "c", "value": "b"}',
    ],
)
def test_a_malformed_line_is_named(dataset: Path, line: str) -> None:
    with dataset.open("a", encoding="utf-8") as lines:
        lines.write(line + "\n")

    with pytest.raises(DocumentError, match=r"line (2|3).*expected"):
        load_dataset(dataset)


def test_a_set_without_any_question_is_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "d.jsonl", [{**LINES[0], "qas": []}])

    with pytest.raises(DocumentError, match="no question"):
        load_dataset(path)


def test_a_file_that_is_cut_off_is_refused(dataset: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl.gz"
    broken.write_bytes(gzip.compress(dataset.read_bytes())[:-20])

    with pytest.raises(DocumentError, match="expected"):
        load_dataset(broken)
