"""Plans: what `explain` predicts, and what the engine's policy makes of it."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from acre_rag.config import ACREConfig
from acre_rag.cost import Curve, ModelSpeeds, StoreSpeeds
from acre_rag.engine import ACREEngine, measured
from acre_rag.errors import BudgetError, ConfigError, DocumentNotFoundError
from acre_rag.model.decode import greedy_settings
from acre_rag.request import USUAL_QUESTION
from acre_rag.store.directory import DirectoryStore
from acre_rag.text.document import Document
from tests.conftest import FindLocal, MakeEngine
from tests.cost.samples import MODEL
from tests.engine.texts import ALL, CAT, HEN, QUESTION, documents_of
from tests.tiny import tiny_settings

NEW = 6
STORE = StoreSpeeds(per_value=1e-6, per_byte=1e-12, sampled_bytes=1e12)
NEAR = replace(MODEL, restore_l1=0.0, restore_l2=0.0)
FAST = Curve(fixed=0.0, per_token=0.0)
SLOW = Curve(fixed=1e6, per_token=0.0)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACRE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def measurements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was measured; a model by planted constants, which takes no time."""
    done: list[str] = []
    read = measured.measure_store

    def model(_reader: object) -> ModelSpeeds:
        done.append("model")
        return MODEL

    def store(*given: object) -> StoreSpeeds | None:
        done.append("store")
        return read(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(measured, "measure_model", model)
    monkeypatch.setattr(measured, "measure_store", store)
    return done


Planned = Callable[..., ACREEngine]


@pytest.fixture
def planned(make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> Planned:
    """Make engines with a policy, on a machine of planted constants; all documents are stored."""

    def make(
        policy: str, store: StoreSpeeds = STORE, *, adapter: str | None = None, **speeds: Curve
    ) -> ACREEngine:
        monkeypatch.setattr(measured, "measure_model", lambda _reader: replace(NEAR, **speeds))
        monkeypatch.setattr(measured, "measure_store", lambda *_: store)
        engine = make_engine(config=tiny_settings(policy=policy), adapter=adapter)
        engine.ingest(ALL)
        return engine

    return make


def _plain_answer(engine: ACREEngine, *documents: Document) -> str:
    """What stock `generate` says to the whole prompt."""
    frame, local = engine.reader.frame, engine.reader.local
    texts = [token for one in documents for token in frame.encode_with_offsets(one.text)[0]]
    prompt = torch.tensor([[*frame.prefix_ids, *texts, *frame.question_rows(QUESTION).ids]])
    with torch.inference_mode():
        made = local.model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            generation_config=greedy_settings(local, NEW),
        )
    return str(local.tokenizer.decode(made[0, prompt.shape[1] :], skip_special_tokens=True)).strip()


# Plans


@pytest.mark.parametrize("family", ["llama", "qwen2", "phi3", "gemma"])
@pytest.mark.parametrize("adapter", [None, "none"])
def test_a_prefill_gives_what_stock_generate_gives_for_the_whole_prompt(
    make_engine: MakeEngine, find_local: FindLocal, family: str, adapter: str | None
) -> None:
    local = find_local(family, torch.float32)
    engine = make_engine(model=local, adapter=adapter, config=tiny_settings(policy="prefill"))
    engine.ingest(ALL)

    one = engine.ask(QUESTION, ["hen"], max_new_tokens=NEW)
    two = engine.ask(QUESTION, ["hen", "cat"], max_new_tokens=NEW)

    assert one.plan == two.plan == "prefill"
    assert one.text == _plain_answer(engine, HEN)
    assert two.text == _plain_answer(engine, HEN, CAT)


def test_a_prefill_says_that_it_saw_everything_and_what_ran(planned: Planned) -> None:
    answer = planned("prefill").ask(QUESTION, ["hen", "cat"], max_new_tokens=NEW)

    assert [(s.document, s.start, s.end, s.text) for s in answer.sources] == [
        (one.id, 0, len(one.text), one.text) for one in (HEN, CAT)
    ]
    assert sum(source.score for source in answer.sources) == pytest.approx(1)
    usage = answer.usage
    assert usage.encoded_tokens == usage.document_tokens > 0
    assert usage.landmarks == usage.refilled_tokens == usage.recomputed_tokens == 0
    assert usage.bytes_read == 0
    assert answer.to_dict()["plan"] == "prefill"
    assert sum(sum(strip.scores) for strip in answer.refill_map.strips) == pytest.approx(1)
    assert "prefilled" in answer._repr_html_()


def test_a_prefill_streams_and_tells_its_sources_first(planned: Planned) -> None:
    engine = planned("prefill")
    with engine.stream(QUESTION, ["cat"], max_new_tokens=NEW) as stream:
        assert stream.plan == "prefill"
        assert [source.text for source in stream.sources] == [CAT.text]
        rows = len(engine.reader.frame.question_rows(QUESTION).ids)
        outside = engine.reader.prefix.tokens + rows
        assert stream.prompt_tokens == outside + stream.usage.document_tokens
        text = "".join(stream)

    assert text.strip() == stream.answer.text == _plain_answer(engine, CAT)
    assert stream.answer.seconds.first_token > 0


@pytest.mark.parametrize("adapter", [None, "none"])
def test_recomputing_answers_as_refilling_does_and_reads_nothing(
    planned: Planned, adapter: str | None
) -> None:
    refilled = planned("refill", adapter=adapter).ask(QUESTION, refill_tokens=24)
    engine = planned("recompute", adapter=adapter)
    recomputed = [engine.ask(QUESTION, refill_tokens=24) for _ in range(2)]

    for answer in recomputed:
        assert (answer.text, answer.sources) == (refilled.text, refilled.sources)
        assert answer.plan == "recompute"
        assert answer.usage.bytes_read == answer.usage.recomputed_tokens == 0
        assert answer.usage.encoded_tokens == answer.usage.document_tokens
    assert refilled.plan == "refill"


@pytest.mark.parametrize("policy", ["prefill", "recompute"])
def test_neither_needs_the_stored_values_nor_touches_them(
    planned: Planned, tmp_path: Path, policy: str
) -> None:
    engine = planned(policy)
    before = engine.ask(QUESTION, max_new_tokens=NEW)
    for values in (tmp_path / "caches").glob("*/*/*/l*"):
        values.unlink()
    left = documents_of(tmp_path / "caches")

    after = engine.ask(QUESTION, max_new_tokens=NEW)

    assert (after.text, after.usage) == (before.text, before.usage)
    assert documents_of(tmp_path / "caches") == left


def test_the_default_is_to_refill_whatever_it_costs(planned: Planned, tmp_path: Path) -> None:
    assert ACREConfig().policy == "refill"
    answer = planned("refill", prefill=FAST).ask(QUESTION, max_new_tokens=NEW)

    assert answer.plan == "refill"
    assert not (tmp_path / "cache").exists()


def test_a_policy_changes_no_cache(planned: Planned) -> None:
    spaces = {planned(policy).reader.identity.space for policy in ("refill", "auto", "prefill")}

    assert len(spaces) == 1


# The choice


@pytest.mark.parametrize(
    ("speeds", "store", "plan"),
    [
        ({"prefill": FAST}, STORE, "prefill"),
        ({"prefill": SLOW}, STORE, "refill"),
        ({"prefill": SLOW}, replace(STORE, per_value=1e6), "recompute"),
    ],
)
def test_auto_follows_the_cheapest_plan_and_says_which(
    planned: Planned, speeds: dict[str, Curve], store: StoreSpeeds, plan: str
) -> None:
    engine = planned("auto", store, **speeds)

    assert engine.explain(QUESTION).cheapest == plan
    with engine.stream(QUESTION, max_new_tokens=NEW) as stream:
        assert stream.plan == plan
    assert engine.ask(QUESTION, max_new_tokens=NEW).plan == plan or plan == "recompute"


def test_auto_refills_what_does_not_fit_however_cheap_a_prefill_is(planned: Planned) -> None:
    engine = planned("auto", prefill=FAST)
    engine.ingest(Document(id="long", text="the cat and the hen " * 200))

    assert engine.ask(QUESTION, ["cat"], max_new_tokens=NEW).plan == "prefill"
    assert engine.ask(QUESTION, ["long"], max_new_tokens=NEW).plan == "refill"
    found = engine.explain(QUESTION, ["long"])
    assert "do not fit" in found["prefill"].obstacle
    assert "do not fit" in str(found)


def test_once_encoded_again_landmarks_in_memory_are_counted_as_there(planned: Planned) -> None:
    engine = planned("auto", replace(STORE, per_value=1e6), prefill=SLOW)
    before = engine.explain(QUESTION)["refill"]

    assert engine.ask(QUESTION, max_new_tokens=NEW).plan == "recompute"

    after = engine.explain(QUESTION)["refill"]
    assert after.steps["load"] == 0 < before.steps["load"]
    assert after.bytes_read < before.bytes_read


def test_retrieval_looks_at_landmarks_whatever_the_policy(planned: Planned) -> None:
    plain, auto = planned("refill"), planned("auto", prefill=FAST)

    assert auto.retrieve(QUESTION).sources == plain.retrieve(QUESTION).sources
    assert auto.retrieve(QUESTION).usage.encoded_tokens == 0


def test_auto_answers_while_a_store_gives_no_values(planned: Planned, tmp_path: Path) -> None:
    engine = planned("auto", None, prefill=SLOW)
    for values in (tmp_path / "caches").glob("*/*/*/l*"):
        values.unlink()

    answer = engine.ask(QUESTION, max_new_tokens=NEW)

    assert answer.usage.encoded_tokens == answer.usage.document_tokens


def test_a_prefill_that_does_not_fit_is_refused_with_what_would(planned: Planned) -> None:
    engine = planned("prefill")
    engine.ingest(Document(id="long", text="the cat and the hen " * 200))

    with pytest.raises(BudgetError, match="set policy to 'refill' or 'auto'") as refused:
        engine.ask(QUESTION, ["long"])
    assert refused.value.needed > refused.value.available


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ConfigError, match="policy is 'fastest'; expected one of refill, recompute"):
        ACREConfig(policy="fastest")  # type: ignore[arg-type]


# The prediction


def test_what_a_refill_of_everything_reads_is_predicted_to_the_byte(planned: Planned) -> None:
    engine = planned("refill")
    tokens = engine.explain().document_tokens

    found = engine.explain(QUESTION, refill_tokens=tokens)
    answer = engine.ask(QUESTION, refill_tokens=tokens, max_new_tokens=NEW)

    assert found.refill_tokens == answer.usage.refilled_tokens == tokens
    # What is counted on reading holds the frames around the values.
    framed = answer.usage.bytes_read - found["refill"].bytes_read
    assert 0 < framed < 0.5 * answer.usage.bytes_read
    assert found["prefill"].encoded_tokens == tokens


def test_an_explanation_speaks_of_documents_machine_and_reason(planned: Planned) -> None:
    engine = planned("refill", prefill=SLOW)

    one, all_three = engine.explain(documents="cat"), engine.explain()

    assert one.documents == ("cat",)
    assert set(all_three.documents) == {"cat", "hen", "fox"}
    assert one.question_tokens == len(engine.reader.frame.question_rows(USUAL_QUESTION).ids)
    assert "'cat'," in str(one)
    assert "3 documents" in str(all_three)
    assert re.search(r"llama on cpu, float32, threads \d+", str(one))
    assert re.search(r"cheapest: refill: .* s to the first token, .* would take", str(one))
    assert one.to_dict()["cheapest"] == "refill"


def test_an_explanation_reads_no_landmarks_and_asks_nothing(planned: Planned) -> None:
    engine = planned("auto")
    engine.explain(QUESTION)

    assert not engine._recall._landmarks._kept


def test_explaining_refuses_what_asking_refuses(planned: Planned) -> None:
    engine = planned("refill")

    with pytest.raises(DocumentNotFoundError, match="'dog'"):
        engine.explain(documents=["dog"])
    with pytest.raises(ConfigError, match="documents is empty"):
        engine.explain(documents=[])
    with pytest.raises(ConfigError, match="the question is empty"):
        engine.explain(" ")
    with pytest.raises(BudgetError, match="a refill of"):
        engine.explain(refill_tokens=100, max_new_tokens=500)


def test_an_empty_store_explains_nothing(make_engine: MakeEngine) -> None:
    with pytest.raises(DocumentNotFoundError, match="holds no documents"):
        make_engine().explain()


# The constants


@pytest.mark.parametrize("adapter", [None, "none"])
def test_a_machine_is_measured_and_its_constants_are_sane(
    make_engine: MakeEngine, adapter: str | None
) -> None:
    engine = make_engine(adapter=adapter)
    engine.ingest(ALL)

    found = engine.explain(QUESTION)

    assert all(0 < cost.seconds < 60 for cost in found.plans)
    model = engine._planner._measured.model()
    assert model.prefill.seconds(400) > model.prefill.seconds(16) > 0
    assert model.step.seconds(100) > 0
    assert min(model.restore_l1, model.restore_l2) > 0


def test_constants_are_measured_once_and_kept_for_other_engines(
    make_engine: MakeEngine, measurements: list[str]
) -> None:
    for _ in range(2):
        engine = make_engine()
        engine.ingest(ALL)
        engine.explain(QUESTION)
        engine.explain(QUESTION, ["cat"])

    assert measurements == ["store", "model"]
    engine.explain(QUESTION, measure=True)
    engine.explain(QUESTION)
    assert measurements == ["store", "model"] * 2


@pytest.mark.parametrize("change", ["model", "adapter", "store", "threads", "stored_dtype"])
def test_what_constants_depend_on_is_measured_apart(
    make_engine: MakeEngine,
    find_local: FindLocal,
    measurements: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    first = make_engine()
    first.ingest(ALL)
    first.explain()
    if change == "threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    second = {
        "model": lambda: make_engine(model=find_local("qwen2", torch.float32)),
        "adapter": lambda: make_engine(adapter="none"),
        "store": lambda: make_engine(store=tmp_path / "elsewhere"),
        "threads": make_engine,
        "stored_dtype": lambda: make_engine(config=tiny_settings(stored_dtype="bfloat16")),
    }[change]()
    second.ingest(ALL)
    second.explain()

    again = {"store": ["store"], "threads": ["store", "model"]}.get(change, ["model"])
    assert measurements == ["store", "model", *again]


def test_a_store_is_measured_again_where_there_is_more_to_read(
    make_engine: MakeEngine, measurements: list[str]
) -> None:
    engine = make_engine()
    engine.ingest([CAT, Document(id="long", text="the cat and the hen " * 200)])
    engine.explain(documents=["cat"])
    measurements.clear()

    engine.explain(documents=["long"])
    engine.explain(documents=["cat"])

    assert measurements == ["store"]


def test_measuring_writes_nothing_into_the_store(
    make_engine: MakeEngine, measurements: list[str], tmp_path: Path
) -> None:
    engine = make_engine()
    engine.ingest(ALL)
    before = documents_of(tmp_path / "caches")

    engine.explain()

    assert measurements
    assert documents_of(tmp_path / "caches") == before


def test_a_store_whose_values_are_gone_is_left_unmeasured(
    make_engine: MakeEngine, measurements: list[str], tmp_path: Path
) -> None:
    engine = make_engine(store=DirectoryStore(tmp_path / "caches"))
    engine.ingest(ALL)
    for folder in (tmp_path / "caches").glob("*/*/*/"):
        if folder.is_dir():
            shutil.rmtree(folder)

    found = engine.explain()

    assert found["refill"].steps["load"] >= 0
    assert measurements == ["store", "model"]
    kinds = [path.read_text() for path in (tmp_path / "cache" / "speeds").iterdir()]
    assert not any("StoreSpeeds" in text for text in kinds)
