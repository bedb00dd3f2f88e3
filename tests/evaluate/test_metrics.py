"""Measures against cases worked out by hand."""

import pytest

from acre_rag.evaluate.bootstrap import interval
from acre_rag.evaluate.dataset import Question
from acre_rag.evaluate.metrics import (
    contains,
    exact,
    f1,
    has_long_answers,
    normalized,
    rouge_l,
    scores,
)


def _question(*answers: str, choices: tuple[str, ...] = ()) -> Question:
    return Question(id="q", text="Q?", answers=answers, choices=choices)


def test_words_lose_case_punctuation_and_articles() -> None:
    assert normalized("The U.S. Army, an army.") == ["us", "army", "army"]
    assert normalized("Theatre") == ["theatre"]


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        ("the cat sat", "cat", 2 * 1 / (2 + 1)),
        ("cat cat", "cat", 2 * 1 / (2 + 1)),
        ("dog", "cat", 0),
        ("", "cat", 0),
        ("the", "a", 1),  # articles alone are no words, and no words are the same
        ("a b c d", "b d e", 2 * 2 / (3 + 3)),  # "a" is an article
    ],
)
def test_f1_is_the_overlap_in_words(answer: str, gold: str, expected: float) -> None:
    assert f1(answer, gold) == pytest.approx(expected)


def test_exact_match_looks_past_case_and_articles() -> None:
    assert exact("The Cat.", "cat") == 1
    assert exact("cats", "cat") == 0


def test_contained_means_whole_words() -> None:
    assert contains("it was the Cat, they say", "cat") == 1
    assert contains("it was the cattle", "cat") == 0
    assert contains("anything", "the") == 0


def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence() -> None:
    # "police kill gunman" of 4 words shares "police gunman"/"the gunman", 3 words with the gold.
    assert rouge_l("police killed the gunman", "police kill the gunman") == pytest.approx(1.0)
    assert rouge_l("police fed the gunman", "police kill the gunman") == pytest.approx(0.75)
    assert rouge_l("", "police") == 0


def test_the_best_gold_answer_counts() -> None:
    found = scores("nine", _question("at nine o'clock", "nine"), long=False)

    assert found == {"f1": 1, "em": 1, "contains": 1}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("B", 1), ("(B) the mill", 1), ("B. the ferry", 1), ("the mill", 1), ("A", 0), ("", 0)],
)
def test_a_choice_is_named_by_its_letter_or_its_words(answer: str, expected: float) -> None:
    question = _question("B", choices=("the ferry", "the mill"))

    assert scores(answer, question, long=False)["accuracy"] == expected


def test_answers_that_are_letters_make_a_question_a_choice() -> None:
    assert scores("C) because", _question("C"), long=False)["accuracy"] == 1
    assert "accuracy" not in scores("Berta", _question("Berta"), long=False)


def test_long_answers_are_those_of_several_sentences() -> None:
    assert has_long_answers([_question("word " * 31), _question("word " * 40)])
    assert not has_long_answers([_question("word"), _question("word")])


def test_an_interval_holds_the_mean_and_narrows_with_more_values() -> None:
    few, many = [0.0, 1.0] * 10, [0.0, 1.0] * 1000

    (low, high), (lower, higher) = interval(few), interval(many)

    assert low < 0.5 < high
    assert (high - low) == pytest.approx(4 * 0.5 / 20**0.5, rel=0.15)  # 2 x 1.96 standard errors
    assert (higher - lower) < (high - low) / 5


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no value"):
        interval([])
