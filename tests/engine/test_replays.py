"""Questions whose passes are put together as a GPU replays them, beside the model's own passes."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from acre_rag.engine import ACREEngine
from acre_rag.model.local import LocalModel
from acre_rag.model.replay import Replays
from tests.conftest import MakeEngine
from tests.engine.texts import ALL, CAT, QUESTION

NEW = 12


@pytest.fixture
def pair(make_engine: MakeEngine, local: LocalModel) -> tuple[ACREEngine, ACREEngine]:
    """One engine that replays, and one that does not, over one store."""
    replaying = replace(local, replays=Replays(frozenset({"cpu"})))
    theirs, ours = make_engine(), make_engine(model=replaying)
    theirs.ingest(ALL)
    return ours, theirs


@pytest.mark.parametrize("budget", [0, 7, 30, None, "auto"])
def test_answers_and_choices_are_the_same(
    pair: tuple[ACREEngine, ACREEngine], budget: int | None
) -> None:
    ours, theirs = (
        [engine.ask(q, refill_tokens=budget, max_new_tokens=NEW) for q in (QUESTION, "Why?")]
        for engine in pair
    )

    for own, other in zip(ours, theirs, strict=True):
        assert own.text == other.text
        assert [(s.document, s.start, s.end) for s in own.sources] == [
            (s.document, s.start, s.end) for s in other.sources
        ]


def test_one_memory_serves_question_after_question(pair: tuple[ACREEngine, ACREEngine]) -> None:
    ours, _ = pair
    ours.ask(QUESTION, max_new_tokens=NEW)
    first = ours.reader.local.replays.captured

    for question in (QUESTION, "Who came?", "What did they eat, and when?"):
        ours.ask(question, max_new_tokens=NEW)

    assert first == ours.reader.local.replays.captured == 2  # many rows, and one


def test_answers_that_run_side_by_side_do_not_share_memory(
    pair: tuple[ACREEngine, ACREEngine],
) -> None:
    ours, theirs = pair
    expected = {q: theirs.ask(q, max_new_tokens=NEW).text for q in (QUESTION, "Why?")}

    first = ours.stream(QUESTION, max_new_tokens=NEW)
    begun = next(iter(first))
    second = ours.stream("Why?", max_new_tokens=NEW)
    answers = [ours.ask(QUESTION, max_new_tokens=NEW).text, second.finish().text]

    assert answers == [expected[QUESTION], expected["Why?"]]
    assert first.finish().text == expected[QUESTION]
    assert expected[QUESTION].startswith(begun.strip())


def test_a_stream_that_is_dropped_gives_its_memory_back(
    pair: tuple[ACREEngine, ACREEngine],
) -> None:
    ours, _ = pair
    stream = ours.stream(QUESTION, max_new_tokens=NEW)
    next(iter(stream))
    stream.close()
    del stream

    standing = ours.reader.local.replays._standing

    assert standing is not None
    assert standing.free


def test_questions_at_once_are_answered_alike(pair: tuple[ACREEngine, ACREEngine]) -> None:
    questions = [QUESTION, "Why?", "Who came?"]

    ours, theirs = (
        [answer.text for answer in engine.ask_all(questions, ["cat"], 20, NEW)] for engine in pair
    )

    assert ours == theirs


def test_numbers_that_are_none_do_not_outlive_their_answer(
    pair: tuple[ACREEngine, ACREEngine],
) -> None:
    ours, theirs = pair
    ours.ask(QUESTION, max_new_tokens=NEW)
    standing = ours.reader.local.replays._standing
    assert standing is not None
    for part in (standing.whole.keys, standing.whole.values):
        part.fill_(torch.nan)

    answer = ours.ask(QUESTION, [CAT.id], max_new_tokens=NEW)

    assert answer.text == theirs.ask(QUESTION, [CAT.id], max_new_tokens=NEW).text


def test_what_a_question_looks_at_and_its_answer_take_the_same_memory(
    pair: tuple[ACREEngine, ACREEngine],
) -> None:
    ours, _ = pair
    ours.ask(QUESTION, ["cat"], max_new_tokens=NEW)
    before = ours.reader.local.replays._standing

    ours.ask(QUESTION, max_new_tokens=NEW)
    ours.ask(QUESTION, ["hen"], max_new_tokens=NEW)

    assert ours.reader.local.replays._standing is before


def test_threads_that_ask_at_the_same_time_get_their_own_answers(
    pair: tuple[ACREEngine, ACREEngine],
) -> None:
    ours, theirs = pair
    questions = [QUESTION, "Why?", "Who came?", "What did they eat, and when?"]
    budgets = (0, 12, 40)
    asked = [(q, budget) for q in questions for budget in budgets]
    expected = [theirs.ask(q, None, budget, NEW).text for q, budget in asked]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda one: ours.ask(one[0], None, one[1], NEW).text, asked * 3))

    assert answers == expected * 3
