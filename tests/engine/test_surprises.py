"""What happens to a question while the store, the document or the model changes under it."""

import logging
import time
from pathlib import Path

import pytest
import torch

from acre_rag.config import ACREConfig
from acre_rag.engine import ACREEngine
from acre_rag.engine.known import LandmarkCache
from acre_rag.engine.stream import Course
from acre_rag.errors import (
    ConfigError,
    DamagedCacheError,
    DocumentNotFoundError,
    ModelError,
    StoreError,
)
from acre_rag.metadata import JSONValue
from acre_rag.model.local import LocalModel
from acre_rag.model.reader import DocumentReader
from acre_rag.store import CacheArchive, DirectoryStore
from acre_rag.text.document import Document
from tests.conftest import FindLocal, MakeEngine
from tests.integrations.conftest import decoding_threads, make_talker
from tests.tiny import tiny_adapter, tiny_local, tiny_settings

TEXT = "The lamp is in the harbour and the key is under the stone. " * 6


def names_of(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.rglob(pattern))


def test_a_template_that_prints_the_date_gives_the_same_space_every_day() -> None:
    dated, plain = tiny_local(), tiny_local()
    day = "{{ strftime_now('%d %B %Y') }}"
    dated.tokenizer.chat_template = day + dated.tokenizer.chat_template
    frozen = "26 July 2024"
    plain.tokenizer.chat_template = frozen + plain.tokenizer.chat_template

    today = DocumentReader(dated, None, tiny_settings())

    assert today.frame.prefix_ids == DocumentReader(plain, None, tiny_settings()).frame.prefix_ids


def test_a_weight_that_is_kept_as_a_buffer_is_part_of_the_identity() -> None:
    def space(sign: float) -> str:
        local = tiny_local()
        projection = local.model.model.layers[1].mlp.up_proj
        weight = projection.weight.detach() * sign
        del projection.weight
        projection.register_buffer("weight", weight)
        return DocumentReader(local, None, tiny_settings()).identity.space

    assert space(1.0) != space(-1.0)


@pytest.mark.parametrize("ask", ["retrieve", "ask"])
def test_a_document_replaced_before_its_landmarks_are_there_is_asked_anew(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, ask: str
) -> None:
    engine, other = make_engine(), make_engine()
    engine.ingest(Document(id="a", text=TEXT))
    boat = Document(id="a", text=TEXT.replace("lamp", "boat"))
    load = engine._recall._load_landmarks
    calls = []

    def replace_first(*given: object) -> object:
        calls.append(given)
        if len(calls) == 1:
            other.ingest(boat)
        return load(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(engine._recall, "_load_landmarks", replace_first)
    monkeypatch.setattr(engine._recall, "_landmarks", LandmarkCache(0))

    found = getattr(engine, ask)("Where is it?", None, 8)

    assert len(calls) == 2
    assert all(boat.text[s.start : s.end] == s.text for s in found.sources)


def test_a_writer_that_does_not_wait_says_so(make_engine: MakeEngine) -> None:
    engine = make_engine()
    archive = CacheArchive(engine.store, engine.reader.identity.space)

    with (
        archive.writer("a", "0" * 16),
        pytest.raises(StoreError, match="by somebody else; expected to be the only writer: wait"),
        archive.writer("a", "0" * 16, wait=False),
    ):
        pass


@pytest.mark.parametrize("policy", ["recompute", "raise"])
def test_a_document_replaced_while_it_is_asked_is_asked_anew(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    settings = tiny_settings(on_damage=policy)
    engine, other = make_engine(config=settings), make_engine(config=settings)
    engine.ingest(Document(id="a", text=TEXT))
    refill = engine._questioner.refill
    changed = []

    def replace_first(*asked: object) -> object:
        if not changed:
            changed.append(other.ingest(Document(id="a", text=TEXT.replace("lamp", "boat"))))
        return refill(*asked)

    monkeypatch.setattr(engine._questioner, "refill", replace_first)

    answer = engine.ask("Where is it?", refill_tokens=8, max_new_tokens=2)

    assert answer.usage.recomputed_tokens == 0
    assert all(source.text in TEXT.replace("lamp", "boat") for source in answer.sources)


def test_a_store_that_goes_away_is_tried_once_for_each_reading(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    engine.ingest(Document(id="a", text=TEXT))
    expected = make_engine().ask("Where?", refill_tokens=40, max_new_tokens=2)
    tried = []

    def gone(*place: object) -> memoryview:
        tried.append(place)
        raise StoreError("found no server; expected one: start it")

    monkeypatch.setattr(engine.store, "read", gone)

    answer = engine.ask("Where?", refill_tokens=40, max_new_tokens=2)

    assert len(tried) == 2  # once for the landmarks, once for what was chosen
    assert answer.text == expected.text
    assert answer.usage.recomputed_tokens > 0


def test_mending_does_not_wait_for_whoever_is_writing(
    make_engine: MakeEngine, tmp_path: Path
) -> None:
    store = DirectoryStore(tmp_path / "caches", lock_seconds=240)
    engine = make_engine(store=store)
    engine.ingest(Document(id="a", text=TEXT))
    version = next(engine.documents()).version
    for value in names_of(tmp_path / "caches", "l2-*"):
        value.unlink()
    archive = CacheArchive(store, engine.reader.identity.space)

    with archive.writer("a", version):
        started = time.monotonic()
        answer = engine.ask("Where?", refill_tokens=8, max_new_tokens=2)

    assert time.monotonic() - started < 120
    assert answer.usage.recomputed_tokens > 0


def test_a_damaged_manifest_is_an_error_where_damage_is(
    make_engine: MakeEngine, tmp_path: Path
) -> None:
    engine = make_engine(config=tiny_settings(on_damage="raise"))
    engine.ingest([Document(id="a", text=TEXT), Document(id="b", text=TEXT)])
    spoil(names_of(tmp_path / "caches", "manifest")[0])

    with pytest.raises(DamagedCacheError):
        engine.ask("Where?")


def test_a_store_with_nothing_but_a_damaged_manifest_names_the_damage(
    make_engine: MakeEngine, tmp_path: Path
) -> None:
    engine = make_engine()
    engine.ingest(Document(id="a", text=TEXT))
    spoil(names_of(tmp_path / "caches", "manifest")[0])

    with pytest.raises(DamagedCacheError):
        engine.ask("Where?")


def test_a_tokenizer_that_fails_ends_the_answer_with_its_error(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(model=tiny_local())
    engine.ingest(Document(id="a", text=TEXT))

    def fail(*_: object, **__: object) -> str:
        raise RuntimeError("no such token")

    monkeypatch.setattr(type(engine.reader.local.tokenizer), "decode", fail)

    with pytest.raises(RuntimeError, match="no such token"):
        engine.ask("Where?", max_new_tokens=3)


def test_dropping_a_stream_in_the_middle_stops_the_model(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(model=make_talker())  # a word that has ended is what a stream gives
    engine.ingest(Document(id="a", text=TEXT))
    steps = []
    monkeypatch.setattr(Course, "note_token", lambda _: (steps.append(1), time.sleep(0.1)))

    for _piece in engine.stream("Where?", max_new_tokens=300):
        break

    assert not decoding_threads()
    assert 0 < len(steps) < 300


def test_one_document_may_be_named_without_a_list(make_engine: MakeEngine) -> None:
    engine = make_engine()

    engine.ingest(Document(id="cat", text=TEXT))

    assert [document.id for document in engine.documents("cat")] == ["cat"]
    assert engine.ask("Where?", "cat", max_new_tokens=1).usage.document_tokens > 0


def test_a_context_of_no_tokens_is_refused() -> None:
    with pytest.raises(ConfigError, match="context_tokens is 0"):
        ACREConfig(context_tokens=0)


def test_every_document_that_can_be_made_can_be_stored(make_engine: MakeEngine) -> None:
    deep: list[JSONValue] = []
    for _ in range(30):
        deep = [deep, 2**63 - 1, -(2**63), 1e-300, None, True]
    note = "\x07\u2028" * 200_000
    metadata = {"deep": deep, "many": [0.5] * 4096, "note": note, "pair": (1, "2")}
    document = Document(id="\u00e9" * 8192, text=TEXT, metadata=metadata)
    engine = make_engine()

    engine.ingest(document)

    assert engine.document(document.id) == document


def test_keys_too_large_for_the_stored_dtype_are_refused_and_nothing_is_stored(
    make_engine: MakeEngine,
) -> None:
    large = tiny_local()
    with torch.no_grad():
        large.model.model.layers[1].self_attn.v_proj.weight.mul_(1e6)
    engine = make_engine(model=large, config=tiny_settings(stored_dtype="float16"))

    with pytest.raises(ConfigError, match=r"'a' are too large for float16; expected numbers up to"):
        engine.ingest(Document(id="a", text=TEXT))

    assert list(engine.documents()) == []
    wide = make_engine(model=large, config=tiny_settings(stored_dtype="bfloat16"))
    wide.ingest(Document(id="a", text=TEXT))
    assert wide.ask("Where?", max_new_tokens=1).usage.refilled_tokens > 0


def test_what_the_model_computes_that_is_no_number_is_refused(make_engine: MakeEngine) -> None:
    local = tiny_local()
    adapter = tiny_adapter(local.model.config)
    adapter.embedding[0] = torch.nan

    with pytest.raises(ModelError, match=r"not a number, computing in float32; .*weights"):
        make_engine(model=local, adapter=adapter).ingest(Document(id="a", text=TEXT))


def test_landmarks_of_documents_that_are_gone_are_let_go_of(make_engine: MakeEngine) -> None:
    engine, other = make_engine(), make_engine()
    engine.ingest([Document(id=name, text=TEXT) for name in "abc"])
    engine.retrieve("Where?")
    kept = engine._recall._landmarks._kept
    assert set(kept) == {"a", "b", "c"}

    engine.delete("a")
    other.delete("b")
    with pytest.raises(DocumentNotFoundError):
        engine.retrieve("Where?", ["b"])
    other.ingest(Document(id="c", text=TEXT + "Not any more."))
    before = kept["c"][0]
    engine.retrieve("Where?")

    assert set(kept) == {"c"}
    assert kept["c"][0] != before


def test_without_an_adapter_the_engine_says_which_method_it_takes(
    tmp_path: Path, local: LocalModel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="acre_rag.engine.adapter")

    ACREEngine(local, None, tmp_path, tiny_settings())
    ACREEngine(local, "none", tmp_path, tiny_settings())

    assert [record.message for record in caplog.records if "training-free" in record.message] == [
        "llama has no landmark adapter: using the training-free mode, a weaker method (name an "
        "adapter, or 'none' to say that this is wished)"
    ]


def spoil(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)


def test_a_document_that_another_model_read_is_said_to_be_there(
    make_engine: MakeEngine, find_local: FindLocal
) -> None:
    make_engine().ingest(Document(id="a", text=TEXT))
    other = make_engine(model=find_local("qwen2", torch.float32))

    with pytest.raises(DocumentNotFoundError, match="but for others: it was read with another"):
        other.ask("Where?", ["a"])
    with pytest.raises(DocumentNotFoundError, match="ingest it first, or check its id"):
        other.ask("Where?", ["b"])
