import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from acre_rag.answer import Answer
from acre_rag.config import ACREConfig
from acre_rag.engine import ACREEngine
from acre_rag.engine import stream as streams
from acre_rag.errors import AdapterError, BudgetError, ConfigError, DocumentNotFoundError
from acre_rag.model.landmarks import LandmarkAdapter
from acre_rag.refill.needed import LEAST_AUTO
from acre_rag.request import Request
from acre_rag.text.document import Document
from tests.conftest import FindLocal, MakeEngine
from tests.engine.texts import ALL, CAT, HEN, QUESTION
from tests.integrations.conftest import decoding_threads, make_talker
from tests.tiny import CONTEXT, INTERVAL, tiny_adapter, tiny_local, tiny_settings

NEW = 4


@pytest.fixture
def engine(make_engine: MakeEngine) -> ACREEngine:
    engine = make_engine()
    engine.ingest(ALL)
    return engine


def _tokens(engine: ACREEngine, *documents: Document) -> int:
    return sum(len(engine.reader.frame.encode_with_offsets(d.text)[0]) for d in documents)


def _asked(answer: Answer) -> list[str]:
    return list(dict.fromkeys(source.document for source in answer.sources))


# Whom to ask


def test_a_passage_answers_where_it_is_named_and_nowhere_else(engine: ACREEngine) -> None:
    passage = Document.passage("The owl sleeps by day.")
    before = engine.ask(QUESTION, max_new_tokens=NEW)
    engine.ingest(passage)

    assert engine.ask(QUESTION, max_new_tokens=NEW).text == before.text
    assert passage.id not in _asked(engine.ask(QUESTION, max_new_tokens=NEW))
    assert _asked(engine.ask(QUESTION, [passage.id], max_new_tokens=NEW)) == [passage.id]


def test_a_store_of_passages_alone_says_so(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.ingest(Document.passage("The owl sleeps by day."))

    with pytest.raises(DocumentNotFoundError, match="holds passages that retrievers gave"):
        engine.ask(QUESTION)


def test_one_document_is_asked_alone(engine: ACREEngine) -> None:
    answer = engine.ask(QUESTION, ["hen"], max_new_tokens=NEW)

    assert _asked(answer) == ["hen"]
    assert answer.usage.document_tokens == _tokens(engine, HEN)


def test_several_documents_are_asked_in_the_order_given(engine: ACREEngine) -> None:
    answer = engine.ask(QUESTION, ["hen", "cat", "hen"], max_new_tokens=NEW)

    assert _asked(answer) == ["hen", "cat"]
    assert answer.usage.document_tokens == _tokens(engine, HEN, CAT)


def test_all_documents_are_asked_when_none_is_named(engine: ACREEngine) -> None:
    answer = engine.ask(QUESTION, max_new_tokens=NEW)

    assert set(_asked(answer)) == {"cat", "hen", "fox"}
    assert sum(source.score for source in answer.sources) == pytest.approx(1, abs=1e-4)


def test_an_answer_depends_on_no_document_that_was_not_asked(
    engine: ACREEngine, make_engine: MakeEngine, tmp_path: Path
) -> None:
    alone = make_engine(store=tmp_path / "alone")
    alone.ingest([HEN])

    ours = engine.ask(QUESTION, ["hen"], max_new_tokens=NEW)
    theirs = alone.ask(QUESTION, max_new_tokens=NEW)

    assert (ours.text, ours.sources) == (theirs.text, theirs.sources)


def test_no_documents_at_all_are_refused(engine: ACREEngine) -> None:
    with pytest.raises(ConfigError, match="documents is empty"):
        engine.ask(QUESTION, [])


def test_an_unknown_document_is_refused_by_name(engine: ACREEngine) -> None:
    with pytest.raises(DocumentNotFoundError, match="'dog'"):
        engine.ask(QUESTION, ["cat", "dog"])


def test_an_empty_store_is_refused(make_engine: MakeEngine) -> None:
    with pytest.raises(DocumentNotFoundError, match="holds no documents"):
        make_engine().ask(QUESTION)


def test_caches_of_another_model_are_named_when_none_is_found(
    engine: ACREEngine, make_engine: MakeEngine, find_local: FindLocal
) -> None:
    other = make_engine(model=find_local("qwen2", torch.float32))

    with pytest.raises(DocumentNotFoundError, match="read by llama with other weights"):
        other.ask(QUESTION)
    with pytest.raises(DocumentNotFoundError, match="not stored for this model"):
        other.ask(QUESTION, ["cat"])
    assert engine.ask(QUESTION, max_new_tokens=1).usage.encoded_tokens == 0


# How much to refill


@pytest.mark.parametrize("budget", [0, 1, 4, 9, 33])
def test_the_budget_is_kept_to_the_token(engine: ACREEngine, budget: int) -> None:
    answer = engine.ask(QUESTION, ["cat", "hen"], budget, NEW)

    # Whole intervals of four; the last of each document may be shorter.
    assert budget - 4 < answer.usage.refilled_tokens <= budget
    assert answer.usage.landmarks == sum(-(-_tokens(engine, d) // 4) for d in (CAT, HEN))
    characters = sum(source.end - source.start for source in answer.sources)
    assert (characters > 0) == (answer.usage.refilled_tokens > 0)


def test_the_default_refills_a_short_document_whole(engine: ACREEngine) -> None:
    usage = engine.ask(QUESTION, ["cat"], max_new_tokens=1).usage

    assert usage.refilled_tokens == _tokens(engine, CAT)


@pytest.mark.parametrize("asking", [0, 3], ids=["", "question landmarks"])
def test_the_cache_and_the_answer_fit_the_context_to_the_token(
    engine: ACREEngine, make_engine: MakeEngine, asking: int
) -> None:
    adapter = tiny_adapter(engine.reader.local.model.config, question_landmarks=asking)
    rows = len(engine.reader.frame.question_rows(QUESTION).ids) + asking
    landmarks = -(-_tokens(engine, CAT) // 4)
    fixed = engine.reader.prefix.tokens + rows + NEW + landmarks
    config = tiny_settings(context_tokens=fixed + 20, segment_tokens=48)
    exact = make_engine(adapter=adapter, config=config)
    exact.ingest([CAT])

    for budget in (20, None):
        usage = exact.ask(QUESTION, ["cat"], budget, NEW).usage
        assert usage.landmarks == landmarks
        assert 20 - INTERVAL < usage.refilled_tokens <= 20
    most = max(n for n in range(_tokens(engine, CAT)) if n + -(-n // 4) <= landmarks + 20)
    assert most > 20
    usage = exact.ask(QUESTION, ["cat"], most, NEW).usage  # other landmarks give way
    assert most - INTERVAL < usage.refilled_tokens <= most
    with pytest.raises(BudgetError, match=f"from 0 to {most}") as caught:
        exact.ask(QUESTION, ["cat"], most + 1, NEW)
    assert caught.value.needed > caught.value.available


@pytest.mark.parametrize(
    ("question", "refill", "new", "message"),
    [
        ("where? " * CONTEXT, None, NEW, "shorten the question by"),
        (QUESTION, None, CONTEXT, r"expected at most \d+, landmarks left out"),
        (QUESTION, 39, CONTEXT - 60, "a refill of 39 tokens needs 49 with 10 landmarks"),
    ],
    ids=["question", "answer", "landmarks"],
)
def test_what_does_not_fit_the_context_is_refused_before_the_model_runs(
    engine: ACREEngine, question: str, refill: int | None, new: int, message: str
) -> None:
    with pytest.raises(BudgetError, match=message):
        engine.ask(question, ["cat"], refill, new)


def test_nothing_refilled_and_no_landmark_kept_is_refused(make_engine: MakeEngine) -> None:
    engine = make_engine(config=tiny_settings(most_landmarks=0))
    engine.ingest([CAT])

    with pytest.raises(BudgetError, match=r"no landmark kept .* expected refill_tokens of 4"):
        engine.ask(QUESTION, ["cat"], 0, NEW)
    assert engine.ask(QUESTION, ["cat"], 8, NEW).usage.landmarks == 2


@pytest.mark.parametrize("most", [-1, None])
def test_a_number_of_landmarks_that_makes_no_sense_is_refused(most: int | None) -> None:
    with pytest.raises(ConfigError, match=r"most_landmarks is .*; expected 0 or more"):
        tiny_settings(most_landmarks=most)


def test_the_longest_answer_that_a_message_names_is_accepted(make_engine: MakeEngine) -> None:
    engine = make_engine(adapter="none")
    engine.ingest([CAT])
    with pytest.raises(BudgetError) as caught:
        engine.retrieve("where? " * CONTEXT)
    assert caught.value.needed > caught.value.available
    with pytest.raises(BudgetError) as caught:
        engine.stream(QUESTION, ["cat"], 1, CONTEXT)

    for new in (caught.value.available, caught.value.available + 1):
        with pytest.raises(BudgetError, match="max_new_tokens is" if new > caught.value.available
                           else "nothing would be refilled"):  # fmt: skip
            engine.stream(QUESTION, ["cat"], 0, new)


@pytest.mark.parametrize("adapter", [None, "none"], ids=["landmarks", "training-free"])
def test_a_budget_beyond_the_document_is_the_whole_document(
    make_engine: MakeEngine, adapter: str | None
) -> None:
    engine = make_engine(adapter=adapter)
    engine.ingest([CAT])

    answer = engine.ask(QUESTION, ["cat"], 10 * CONTEXT, NEW)

    assert answer.usage.refilled_tokens == _tokens(engine, CAT)


def test_auto_refills_as_many_tokens_as_the_scores_ask_for(
    make_engine: MakeEngine, adapter: LandmarkAdapter
) -> None:
    used = []
    for least in (0.9, 0.02, 1e-6):
        engine = make_engine(adapter=replace(adapter, refill_score=least))
        engine.ingest(ALL)
        answer = engine.ask(QUESTION, refill_tokens="auto", max_new_tokens=NEW)
        strips = engine.retrieve(QUESTION, refill_tokens="auto").refill_map.strips
        left = [s for strip in strips for i, s in enumerate(strip.scores) if i not in strip.chosen]
        used.append(answer.usage.refilled_tokens)
        assert max(left, default=0) < least or used[-1] >= 240

    assert LEAST_AUTO - INTERVAL < used[0] <= LEAST_AUTO
    assert used == sorted(used)
    assert used[0] < used[2]


def test_without_landmarks_a_budget_of_less_than_an_interval_is_refused(
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(adapter="none")
    engine.ingest([CAT])

    assert engine.retrieve(QUESTION, ["cat"], 0).sources == ()
    with pytest.raises(BudgetError, match=f"refill_tokens of {INTERVAL} or more"):
        engine.ask(QUESTION, ["cat"], 0, NEW)
    assert 0 < engine.ask(QUESTION, ["cat"], INTERVAL, NEW).usage.refilled_tokens <= INTERVAL


@pytest.mark.parametrize("count", [8, 10**6])
def test_there_are_no_more_sources_than_intervals(engine: ACREEngine, count: int) -> None:
    sources = engine.retrieve(QUESTION, ["cat"], 4 * INTERVAL, sources=count).sources

    assert len(sources) == 4


# What comes back


def test_every_source_is_the_text_it_says(engine: ACREEngine) -> None:
    texts = {document.id: document.text for document in ALL}
    answer = engine.ask(QUESTION, None, 40, NEW)

    assert answer.sources
    for source in answer.sources:
        assert texts[source.document][source.start : source.end] == source.text


def test_retrieving_reads_no_tokens_and_finds_what_asking_refills(engine: ACREEngine) -> None:
    retrieval = engine.retrieve(QUESTION, ["cat"], 16)
    fresh = engine.ask(QUESTION, ["cat"], 16, NEW)

    assert retrieval.sources == fresh.sources
    landmarks = retrieval.usage.landmarks * 2 * 3 * 2 * 6 * 4
    assert landmarks < retrieval.usage.bytes_read < landmarks + 500 * 6
    assert retrieval.seconds.fetch == 0


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_runs_are_split_or_cut_to_give_so_many(engine: ACREEngine, count: int) -> None:
    sources = engine.retrieve(QUESTION, ["cat", "fox"], 40, sources=count).sources

    assert len(sources) == count
    texts = {document.id: document.text for document in ALL}
    assert all(texts[s.document][s.start : s.end] == s.text for s in sources)


def test_only_the_blocks_that_were_chosen_are_read(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.ingest([CAT])

    none = engine.ask(QUESTION, ["cat"], 0, 1).usage.bytes_read  # landmarks stay in memory
    some = engine.ask(QUESTION, ["cat"], 4, 1).usage.bytes_read
    all_of_it = engine.ask(QUESTION, ["cat"], None, 1).usage.bytes_read

    (stored,) = engine.documents()
    assert 0 < none < stored.bytes / 3
    assert 0 < some < all_of_it / 2


def test_instructions_of_one_question_keep_caches_valid(engine: ACREEngine) -> None:
    usage = engine.ask(QUESTION, ["cat"], None, 1, "Shout.").usage

    assert usage.encoded_tokens == 0


def test_the_published_rule_scores_otherwise(make_engine: MakeEngine) -> None:
    learned, published = make_engine(), make_engine(config=tiny_settings(selection="published"))
    learned.ingest([CAT])

    ours, theirs = (e.retrieve(QUESTION, ["cat"]).sources for e in (learned, published))

    assert ours[0].score == pytest.approx(theirs[0].score)  # all of it, in one run
    ours, theirs = (
        [s.score for s in e.retrieve(QUESTION, ["cat"], sources=8).sources]
        for e in (learned, published)
    )
    assert ours != theirs


def test_everything_refilled_without_landmarks_is_generation_from_the_full_text(
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(adapter="none", config=tiny_settings(window_tokens=120,
                                                              segment_tokens=120))  # fmt: skip
    engine.ingest([CAT])
    local, frame = engine.reader.local, engine.reader.frame
    text = frame.encode_with_offsets(CAT.text)[0]
    ids = torch.tensor([[*frame.prefix_ids, *text, *frame.question_rows(QUESTION).ids]])

    answer = engine.ask(QUESTION, max_new_tokens=12)

    plain = local.model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12
    )
    expected = local.tokenizer.decode(plain[0, ids.shape[1] :], skip_special_tokens=True)
    assert answer.text == expected.strip()


def test_a_models_own_settings_for_chat_do_not_bend_greedy_answers(
    make_engine: MakeEngine,
) -> None:
    local = tiny_local("llama")
    engine = make_engine(model=local)
    engine.ingest([CAT])
    expected = engine.ask(QUESTION, max_new_tokens=12).text

    local.model.generation_config.update(
        do_sample=True, temperature=5.0, top_k=3, repetition_penalty=9.0
    )

    assert engine.ask(QUESTION, max_new_tokens=12).text == expected


# Long documents


def _long(engine: ACREEngine) -> Document:
    words = " ".join(f"the hen number {number} went in" for number in range(60))
    assert _tokens(engine, Document(id="long", text=words)) > CONTEXT
    return Document(id="long", text=words)


@pytest.mark.parametrize("adapter", [None, "none"], ids=["landmarks", "pooled"])
@pytest.mark.parametrize("context", [None, 140])
def test_a_document_longer_than_the_context_is_read_and_asked(
    make_engine: MakeEngine, adapter: str | None, context: int | None
) -> None:
    engine = make_engine(adapter=adapter, config=tiny_settings(context_tokens=context))
    document = _long(engine)
    engine.ingest([document])

    answer = engine.ask(QUESTION, None, 30, NEW)

    assert 26 < answer.usage.refilled_tokens <= 30
    rows = len(engine.reader.frame.question_rows(QUESTION).ids)
    cache = engine.reader.prefix.tokens + answer.usage.landmarks + answer.usage.refilled_tokens
    assert cache + rows + NEW <= engine.reader.context_tokens
    assert all(document.text[s.start : s.end] == s.text for s in answer.sources)


def test_scores_of_segments_asked_apart_add_up_to_one(make_engine: MakeEngine) -> None:
    engine = make_engine(config=tiny_settings(context_tokens=140))
    engine.ingest([_long(engine)])
    asked = engine._questioner.ask(Request(question=QUESTION, refill_tokens=0))

    assert len(asked.segments) > 1
    assert float(asked.selection.scores.sum()) == pytest.approx(1, abs=1e-4)
    kept = asked.selection.landmarks
    assert 0 < len(kept) < len(asked.selection.scores)
    best = asked.selection.scores.argsort(descending=True)[: len(kept)]
    assert kept.tolist() == sorted(best.tolist())


# Streams


def test_a_stream_gives_the_answer_piece_by_piece(engine: ACREEngine) -> None:
    expected = engine.ask(QUESTION, ["cat"], max_new_tokens=12)

    with engine.stream(QUESTION, ["cat"], max_new_tokens=12) as stream:
        assert stream.sources == expected.sources
        with pytest.raises(RuntimeError, match="not complete"):
            _ = stream.answer
        text = "".join(stream)

    assert text.strip() == stream.answer.text == expected.text
    seconds = stream.answer.seconds
    assert 0 < seconds.first_token <= seconds.total


def test_a_closed_stream_stops_the_model(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(model=make_talker())  # a word that has ended is what a stream gives
    engine.ingest(CAT)
    steps = []
    note = streams.Course.note_token

    def slow(course: streams.Course) -> None:
        steps.append(time.perf_counter())
        time.sleep(0.1)  # else the model may be done before it can be stopped
        note(course)

    monkeypatch.setattr(streams.Course, "note_token", slow)

    stream = engine.stream(QUESTION, ["cat"], max_new_tokens=400)
    next(iter(stream))
    stream.close()

    assert not decoding_threads()
    assert 0 < len(steps) < 400
    assert stream.answer.usage.landmarks > 0
    assert engine.reader.local.lock.acquire(blocking=False)
    engine.reader.local.lock.release()


def test_a_stream_tells_how_long_finding_took_before_its_first_word(engine: ACREEngine) -> None:
    stream = engine.stream(QUESTION, max_new_tokens=3)
    before = stream.seconds

    for _ in stream:
        pass

    after = stream.answer.seconds
    assert (before.load, before.select, before.fetch) == (after.load, after.select, after.fetch)
    assert 0 < before.total < after.first_token <= after.total == stream.seconds.total


def test_a_stream_that_was_never_read_can_be_closed(engine: ACREEngine) -> None:
    stream = engine.stream(QUESTION, ["cat"])

    stream.close()

    assert stream.answer.text == ""


def test_an_error_of_the_model_reaches_whoever_reads_the_stream(
    engine: ACREEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> Iterator[str]:
        raise MemoryError("no room left")

    monkeypatch.setattr(engine.reader.local.model, "generate", fail)

    with pytest.raises(MemoryError, match="no room left"):
        engine.ask(QUESTION, ["cat"])


# Settings


@pytest.mark.parametrize(
    "changes",
    [
        {"interval_tokens": 0},
        {"window_tokens": 10},
        {"segment_tokens": 30},
        {"stored_dtype": "int3"},
        {"selection": "random"},
        {"on_damage": "ignore"},
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        tiny_settings(**changes)


@pytest.mark.parametrize(
    ("context", "message"), [(20, "lower window_tokens"), (5, "expected room for one interval")]
)
def test_a_window_that_does_not_fit_the_context_is_refused(
    make_engine: MakeEngine, context: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_engine(config=tiny_settings(context_tokens=context))


def test_an_adapter_that_is_not_there_is_refused(make_engine: MakeEngine, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="check the path"):
        make_engine(adapter=str(tmp_path / "nowhere"))


def test_an_adapter_of_another_interval_is_refused(make_engine: MakeEngine) -> None:
    with pytest.raises(ConfigError, match="the adapter was trained for 4"):
        make_engine(config=ACREConfig())
