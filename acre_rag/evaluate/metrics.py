"""How good an answer is: SQuAD's measures, ROUGE-L for long answers, accuracy for choices."""

import re
import statistics
import string
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from acre_rag.evaluate.dataset import Question

LONG_ANSWER_WORDS = 30

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_LETTER = re.compile(r"\(?([A-Z])(?:[).:]|\b)")


def normalized(text: str) -> list[str]:
    """Split text to words as SQuAD's script does: lower case, no punctuation, no articles."""
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def f1(answer: str, gold: str) -> float:
    """Measure the overlap in words, from 0 to 1."""
    given, wanted = normalized(answer), normalized(gold)
    common = sum((Counter(given) & Counter(wanted)).values())
    if not common:
        return float(given == wanted)
    return 2 * common / (len(given) + len(wanted))


def exact(answer: str, gold: str) -> float:
    """Tell whether both are the same words."""
    return float(normalized(answer) == normalized(gold))


def contains(answer: str, gold: str) -> float:
    """Tell whether the gold answer stands in the answer, as whole words."""
    wanted = " ".join(normalized(gold))
    return float(bool(wanted) and f" {wanted} " in f" {' '.join(normalized(answer))} ")


def rouge_l(answer: str, gold: str) -> float:
    """Measure the longest common subsequence of stems, as ROUGE-L's F-measure."""
    return float(_rouge().score(gold, answer)["rougeL"].fmeasure)


def chosen(answer: str, choices: Sequence[str]) -> str | None:
    """Find which choice an answer names, by its letter or by its words; `None` for no one."""
    letters = string.ascii_uppercase[: len(choices)] if choices else string.ascii_uppercase[:8]
    named = _LETTER.match(answer.strip())
    if named and named[1] in letters:
        return named[1]
    spelled = [
        letter
        for letter, choice in zip(letters, choices, strict=False)
        if contains(answer, choice) or exact(answer, choice)
    ]
    return spelled[0] if len(spelled) == 1 else None


def choice_accuracy(answer: str, question: Question) -> float:
    """Tell whether an answer names a gold choice."""
    named = chosen(answer, question.choices)
    gold = {chosen(wanted, question.choices) for wanted in question.answers}
    return float(named is not None and named in gold)


def is_choice(question: Question) -> bool:
    """Tell whether a question is answered by a letter, or by one of given choices."""
    single = all(re.fullmatch(r"\(?[A-H]\)?\.?", answer) for answer in question.answers)
    return bool(question.choices) or single


def has_long_answers(questions: Sequence[Question]) -> bool:
    """Tell whether half of the questions or more want several sentences."""
    words = [min(len(answer.split()) for answer in question.answers) for question in questions]
    return bool(words) and statistics.median(words) > LONG_ANSWER_WORDS


def scores(answer: str, question: Question, *, long: bool) -> dict[str, float]:
    """Measure one answer against the best of its gold answers.

    Args:
        answer: What the model said.
        question: Brings the gold answers.
        long: Measure ROUGE-L as well.
    """
    gold = question.answers
    found = {
        "f1": max(f1(answer, wanted) for wanted in gold),
        "em": max(exact(answer, wanted) for wanted in gold),
        "contains": max(contains(answer, wanted) for wanted in gold),
    }
    if long:
        found["rouge_l"] = max(rouge_l(answer, wanted) for wanted in gold)
    if is_choice(question):
        found["accuracy"] = choice_accuracy(answer, question)
    return found


@lru_cache(maxsize=1)
def _rouge() -> Any:  # noqa: ANN401  # the library ships no types
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=True)
