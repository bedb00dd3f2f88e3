"""Questions asked together are answered as they are one by one, in a loop over `ask`."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from acre_rag.answer import Answer
from acre_rag.engine import ACREEngine
from acre_rag.engine import batch as batches
from acre_rag.engine.question import Questioner
from acre_rag.errors import (
    ACREError,
    BudgetError,
    ConfigError,
    DocumentNotFoundError,
    DocumentReplacedError,
)
from acre_rag.model import answering
from acre_rag.model.batched import RememberedPrompt
from acre_rag.text.document import Document
from tests.conftest import FindLocal, MakeEngine
from tests.engine.texts import ALL, CAT, HEN, QUESTION
from tests.tiny import CONTEXT, tiny_adapter, tiny_settings

NEW = 6
QUESTIONS = (
    QUESTION,
    "eggs?",
    "how many eggs does the red hen lay in the old barn, " * 8 + "and when?",
    "who slept?",
    "did the rain come before the cat went in, or only after that?",
)


def _loop(engine: ACREEngine, *args: object) -> list[Answer]:
    return [engine.ask(question, *args, max_new_tokens=NEW) for question in QUESTIONS]  # type: ignore[arg-type]


def _same(ours: Sequence[Answer], theirs: Sequence[Answer]) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.text == other.text
        assert one.plan == other.plan
        places = [[(s.document, s.start, s.end, s.text) for s in a.sources] for a in (one, other)]
        assert places[0] == places[1]
        assert [s.score for s in one.sources] == pytest.approx([s.score for s in other.sources])
        assert one.usage == other.usage
        assert [strip.chosen for strip in one.refill_map.strips] == [
            strip.chosen for strip in other.refill_map.strips
        ]


@pytest.mark.parametrize("kind", ["landmarks", "question landmarks", "training-free"])
def test_answers_of_a_batch_are_those_of_a_loop(
    make_engine: MakeEngine, find_local: FindLocal, family: str, kind: str
) -> None:
    model = find_local(family, torch.float32)
    asking = 3 if kind == "question landmarks" else 0
    own = tiny_adapter(model.model.config, question_landmarks=asking)

    def engine() -> ACREEngine:
        made = make_engine(model=model, adapter="none" if kind == "training-free" else own)
        made.ingest(ALL)
        return made

    for arguments in ((None, 12), (["hen", "cat"], None)):
        theirs = _loop(engine(), *arguments)
        ours = engine().ask_all(QUESTIONS, *arguments, max_new_tokens=NEW)
        _same(ours, theirs)
        assert len({(answer.text, answer.sources) for answer in theirs}) > 1


@pytest.mark.parametrize("refill", [0, "auto"])
def test_budgets_and_instructions_are_those_of_every_question(
    make_engine: MakeEngine, refill: int | str
) -> None:
    engine = make_engine()
    engine.ingest(ALL)
    engine.ask(QUESTION, max_new_tokens=1)  # landmarks are read by now

    ours = engine.ask_all(iter(QUESTIONS), None, refill, NEW, "Say it in one word.")  # type: ignore[arg-type]
    theirs = [engine.ask(q, None, refill, NEW, "Say it in one word.") for q in QUESTIONS]  # type: ignore[arg-type]

    _same(ours, theirs)


@pytest.mark.parametrize("context", [160, 200], ids=["all of them", "the longest"])
def test_questions_that_do_not_fit_beside_all_landmarks_are_asked_by_segment(
    make_engine: MakeEngine, context: int
) -> None:
    engine = make_engine(config=tiny_settings(context_tokens=context))
    engine.ingest([Document(id=f"{d.id} {n}", text=d.text) for n in range(4) for d in ALL])
    short = [question for question in QUESTIONS if len(question) < 100]
    engine.ask(QUESTION, max_new_tokens=1)

    ours = engine.ask_all(short, None, 8, NEW)

    _same(ours, [engine.ask(question, None, 8, NEW) for question in short])


def test_a_bounded_batch_takes_several_and_gives_the_same(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    engine.ingest(ALL)
    sizes: list[int] = []
    answer_batch = answering.answer_batch

    def watch(local: object, prompts: Sequence[RememberedPrompt], *rest: object) -> list[str]:
        sizes.append(len(prompts))
        return answer_batch(local, prompts, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(answering, "answer_batch", watch)
    monkeypatch.setattr(batches, "default_batch_tokens", lambda _: 300)
    many = [f"{question} {number}" for number in range(4) for question in ("eggs?", "who slept?")]

    ours = engine.ask_all(many, None, 12, NEW)

    assert sum(sizes) == len(many)
    assert 1 < max(sizes) < len(many)
    monkeypatch.undo()
    assert [a.text for a in ours] == [engine.ask(q, None, 12, NEW).text for q in many]


def test_landmarks_are_read_once_and_count_with_the_first(make_engine: MakeEngine) -> None:
    make_engine().ingest(ALL)

    first, *others = make_engine().ask_all([QUESTION] * 4, None, 12, NEW)

    l2 = others[0].usage.bytes_read
    assert 0 < l2 < first.usage.bytes_read
    assert [other.usage.bytes_read for other in others] == [l2] * 3


def test_seconds_count_from_the_call(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.ingest(ALL)

    for seconds in (answer.seconds for answer in engine.ask_all(QUESTIONS, max_new_tokens=NEW)):
        assert min(seconds.load, seconds.select, seconds.fetch) > 0
        assert seconds.load + seconds.select + seconds.fetch <= seconds.first_token
        assert seconds.first_token < seconds.total


@pytest.mark.parametrize("policy", ["prefill", "recompute"])
def test_other_plans_are_followed(make_engine: MakeEngine, policy: str) -> None:
    engine = make_engine(config=tiny_settings(policy=policy))
    engine.ingest(ALL)

    ours = engine.ask_all(QUESTIONS, ["cat", "fox"], 12, NEW)
    theirs = [engine.ask(question, ["cat", "fox"], 12, NEW) for question in QUESTIONS]

    assert [a.text for a in ours] == [a.text for a in theirs]
    assert {a.plan for a in ours} == {policy}
    encoded = [a.usage.encoded_tokens for a in ours]
    assert encoded[0] == theirs[0].usage.encoded_tokens > 0
    assert set(encoded[1:]) == ({encoded[0]} if policy == "prefill" else {0})


def test_plans_may_differ_from_question_to_question(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    engine.ingest(ALL)
    wanted = {QUESTIONS[1]: "prefill", QUESTIONS[3]: "recompute"}
    monkeypatch.setattr(
        engine._planner, "plan", lambda _, request: wanted.get(request.question, "refill")
    )

    ours = engine.ask_all(QUESTIONS, None, 12, NEW)

    assert [a.plan for a in ours] == ["refill", "prefill", "refill", "recompute", "refill"]
    assert [a.text for a in ours] == [a.text for a in _loop(engine, None, 12)]


def test_no_questions_get_no_answers(make_engine: MakeEngine) -> None:
    assert make_engine().ask_all([]) == []


@pytest.mark.parametrize(
    ("questions", "error", "message"),
    [
        ("where?", ConfigError, "of type str; expected several strings"),
        (["where?", " ", "who?"], ConfigError, "question 2 of 3: the question is empty"),
        (["where?", "who?", 3], ConfigError, "question 3 of 3: the question is of type int"),
        (["where?", "who? " * CONTEXT], BudgetError, "question 2 of 2: .*shorten the question"),
    ],
)
def test_one_bad_question_is_named_and_none_is_answered(
    make_engine: MakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    questions: list[str],
    error: type[ACREError],
    message: str,
) -> None:
    engine = make_engine()
    engine.ingest(ALL)
    monkeypatch.setattr(answering, "answer_batch", lambda *_: pytest.fail("one was answered"))
    monkeypatch.setattr(Questioner, "refill", lambda *_: pytest.fail("one was fetched"))

    with pytest.raises(error, match=message):
        engine.ask_all(questions, max_new_tokens=NEW)


def test_a_budget_that_one_question_cannot_have_is_named_before_any_is_fetched(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(adapter="none")
    engine.ingest(ALL)
    monkeypatch.setattr(Questioner, "refill", lambda *_: pytest.fail("one was fetched"))

    with pytest.raises(BudgetError, match="question 1 of 5: nothing would be refilled") as caught:
        engine.ask_all(QUESTIONS, None, 0, NEW)
    assert caught.value.needed == 4
    with pytest.raises(ConfigError, match=r"^refill_tokens is -1"):
        engine.ask_all(QUESTIONS, None, -1, NEW)
    with pytest.raises(DocumentNotFoundError, match="'dog'"):
        engine.ask_all(QUESTIONS, ["cat", "dog"])


def test_a_document_that_is_replaced_meanwhile_is_asked_as_it_is_then(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engine, writer, fresh = make_engine(), make_engine(), make_engine(store=tmp_path / "fresh")
    engine.ingest([CAT, HEN])
    new = Document(id="cat", text=HEN.text + " " + CAT.text)
    fresh.ingest([new, HEN])
    old_words = [a.text for a in _loop(engine, ["cat", "hen"], 12)]
    new_words = [a.text for a in _loop(fresh, ["cat", "hen"], 12)]
    assert old_words != new_words
    refill = Questioner.refill
    seen: list[object] = []

    def replaced(self: Questioner, asked: object, *room: object) -> object:
        seen.append(asked)
        if len(seen) == 3:
            writer.ingest(new)
        return refill(self, asked, *room)  # type: ignore[arg-type]

    monkeypatch.setattr(Questioner, "refill", replaced)

    ours = engine.ask_all(QUESTIONS, ["cat", "hen"], 12, NEW)

    assert [a.text for a in ours] == [*old_words[:2], *new_words[2:]]
    assert ours[-1].usage.document_tokens > ours[0].usage.document_tokens


def test_documents_replaced_again_and_again_are_an_error(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    engine.ingest([CAT])

    def replaced(_self: Questioner, *_: object) -> None:
        raise DocumentReplacedError("replaced")

    monkeypatch.setattr(Questioner, "refill", replaced)

    with pytest.raises(DocumentReplacedError):
        engine.ask_all(QUESTIONS, max_new_tokens=NEW)
