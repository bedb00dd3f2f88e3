"""Any doubt is a miss: what cannot be trusted is read again from text, or raised by policy."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from acre_rag.cache import KVBlock
from acre_rag.errors import DamagedCacheError, DocumentNotFoundError, StoreError
from acre_rag.model.local import LocalModel
from acre_rag.model.prefill import WindowCache
from acre_rag.store import CacheArchive, DirectoryStore
from tests.conftest import MakeEngine
from tests.engine.texts import CAT, HEN, QUESTION, documents_of, folder_of, value_of
from tests.tiny import SHORT_PROMPT, tiny_adapter, tiny_local, tiny_settings

NEW = 6


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGE = [Path.unlink, _flip, _cut, _empty]


@pytest.mark.parametrize("damage", DAMAGE[:2], ids=["missing", "flipped"])
@pytest.mark.parametrize(
    ("adapter", "stored"),
    [(None, "float32"), (None, "bfloat16"), ("none", "bfloat16"), (None, "int8"), ("none", "int8")],
    ids=[
        "landmarks-float32",
        "landmarks-bfloat16",
        "training-free-bfloat16",
        "landmarks-int8",
        "training-free-int8",
    ],
)
@pytest.mark.parametrize("names", [["l1-1"], ["l2-0"], ["l2-1"], ["l1-0", "l1-2", "l2-2"]])
def test_damage_is_mended_counted_and_changes_no_answer(
    make_engine: MakeEngine, tmp_path: Path, names: list[str], stored: str, adapter: str | None,
    damage: Callable[[Path], None],
) -> None:  # fmt: skip
    config = tiny_settings(stored_dtype=stored)
    store = tmp_path / "caches"
    first = make_engine(adapter=adapter, config=config)
    first.ingest([CAT, HEN])
    expected = first.ask(QUESTION, max_new_tokens=NEW)
    before = documents_of(store)
    for name in names:
        damage(value_of(first, store, "cat", name))

    again = make_engine(adapter=adapter, config=config)
    mended = again.ask(QUESTION, max_new_tokens=NEW)

    assert (mended.text, mended.sources) == (expected.text, expected.sources)
    assert mended.usage.recomputed_tokens == mended.usage.encoded_tokens > 0
    assert documents_of(store) == before
    assert make_engine(adapter=adapter, config=config).ask(QUESTION).usage.recomputed_tokens == 0


def test_only_the_windows_that_are_damaged_are_read_again(
    make_engine: MakeEngine, tmp_path: Path
) -> None:
    engine = make_engine()
    engine.ingest([CAT])
    _flip(value_of(engine, tmp_path / "caches", "cat", "l1-1"))

    usage = make_engine().ask(QUESTION, max_new_tokens=1).usage

    assert usage.recomputed_tokens == engine.config.window_tokens


@pytest.mark.parametrize("name", ["l1-1", "l2-1"])
@pytest.mark.parametrize("damage", DAMAGE, ids=["missing", "flipped", "cut", "empty"])
def test_damage_is_raised_where_that_is_wished(
    make_engine: MakeEngine, tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    config = tiny_settings(on_damage="raise")
    engine = make_engine(config=config)
    engine.ingest([CAT])
    damage(value_of(engine, tmp_path / "caches", "cat", name))

    with pytest.raises(DamagedCacheError) as caught:
        make_engine(config=config).ask(QUESTION)

    assert caught.value.value == name.replace("-", ":")


def test_values_of_another_document_are_not_taken_for_its_own(
    make_engine: MakeEngine, tmp_path: Path
) -> None:
    engine = make_engine()
    engine.ingest([CAT, HEN])
    expected = engine.ask(QUESTION, ["cat"], max_new_tokens=NEW).text
    store = tmp_path / "caches"
    shutil.copy(value_of(engine, store, "hen", "l1-0"), value_of(engine, store, "cat", "l1-0"))

    answer = make_engine().ask(QUESTION, ["cat"], max_new_tokens=NEW)

    assert answer.text == expected
    assert answer.usage.recomputed_tokens > 0


def test_a_damaged_manifest_is_named_and_reading_the_document_again_mends_it(
    make_engine: MakeEngine, tmp_path: Path
) -> None:
    engine = make_engine()
    engine.ingest([CAT, HEN])
    expected = engine.ask(QUESTION, ["cat"], max_new_tokens=NEW).text
    _flip(folder_of(engine, tmp_path / "caches", "cat") / "manifest")

    with pytest.raises(DamagedCacheError, match="manifest"):
        make_engine().ask(QUESTION, ["cat"])
    assert [stored.id for stored in engine.documents()] == ["hen"]
    engine.ingest([CAT])

    assert make_engine().ask(QUESTION, ["cat"], max_new_tokens=NEW).text == expected


def test_a_missing_manifest_is_a_document_that_is_not_stored(
    make_engine: MakeEngine, tmp_path: Path
) -> None:
    engine = make_engine()
    engine.ingest([CAT])
    (folder_of(engine, tmp_path / "caches", "cat") / "manifest").unlink()

    with pytest.raises(DocumentNotFoundError):
        make_engine().ask(QUESTION, ["cat"])


class _ReadOnlyStore(DirectoryStore):
    """A store that reads and refuses to write."""

    def writer(self, *_: object, **__: object) -> object:  # type: ignore[override]
        raise StoreError("the store is read-only; expected one that can be written")


class _BrokenStore(_ReadOnlyStore):
    """A store that loses its values after the manifests were read."""

    def read(self, *_: object) -> memoryview:
        raise StoreError("the store is gone; expected it to be there")


@pytest.mark.parametrize("kind", [_ReadOnlyStore, _BrokenStore])
def test_a_store_that_cannot_be_mended_still_answers(
    make_engine: MakeEngine, tmp_path: Path, kind: type[DirectoryStore]
) -> None:
    engine = make_engine()
    engine.ingest([CAT])
    expected = engine.ask(QUESTION, max_new_tokens=NEW).text
    value_of(engine, tmp_path / "caches", "cat", "l2-1").unlink()

    answer = make_engine(store=kind(tmp_path / "caches")).ask(QUESTION, max_new_tokens=NEW)

    assert answer.text == expected
    assert answer.usage.recomputed_tokens > 0


def test_a_store_that_cannot_be_written_refuses_to_ingest(
    make_engine: MakeEngine, tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match="read-only"):
        make_engine(store=_ReadOnlyStore(tmp_path / "caches")).ingest([CAT])


def test_mending_keeps_metadata_that_came_meanwhile(
    make_engine: MakeEngine, tmp_path: Path
) -> None:
    engine, other = make_engine(), make_engine()
    engine.ingest([CAT])
    recalled = engine._recall.recall(["cat"])
    value_of(engine, tmp_path / "caches", "cat", "l2-1").unlink()
    (document,) = recalled.documents
    newer = type(CAT)(id="cat", text=CAT.text, metadata={"page": 3})
    archive = CacheArchive(other.store, other.reader.identity.space)
    other.ingest([newer])
    value_of(engine, tmp_path / "caches", "cat", "l2-1").unlink()

    engine._recall.fetch(document, [3, 4], recalled.ledger, lambda *_: None)

    manifest = archive.load_manifest("cat")
    assert manifest is not None
    assert manifest.metadata == {"page": 3}
    assert value_of(engine, tmp_path / "caches", "cat", "l2-1").exists()


@pytest.mark.parametrize("stored", ["float32", "bfloat16", "float16"])
def test_what_is_stored_comes_back_bit_for_bit(make_engine: MakeEngine, stored: str) -> None:
    engine = make_engine(config=tiny_settings(stored_dtype=stored))
    engine.ingest([CAT])
    recalled = engine._recall.recall(["cat"])
    (document,) = recalled.documents
    intervals = list(range(document.layout.intervals))

    found: dict[int, KVBlock] = {}
    engine._recall.fetch(
        document, intervals, recalled.ledger, lambda own, block: found.update({own[0]: block})
    )
    l2 = KVBlock.concatenate([found[first] for first in sorted(found)])
    read = dict(engine._ingestion.mend(document.manifest, range(document.layout.windows), {}.get))

    landmarks = KVBlock.concatenate(document.landmarks)
    assert (landmarks.keys == _join(read, "l1").keys).all()
    assert (l2.values == _join(read, "l2").values).all()


def _join(read: dict[int, WindowCache], level: str) -> KVBlock:
    return KVBlock.concatenate([getattr(read[window], level) for window in sorted(read)])


@pytest.mark.parametrize("policy", ["recompute", "raise"])
@pytest.mark.parametrize("name", ["l1-0", "l2-1"])
@pytest.mark.parametrize("damage", [_cut, _empty, Path.unlink], ids=["cut", "empty", "missing"])
def test_reading_a_document_again_mends_values_whose_size_is_wrong(
    make_engine: MakeEngine, tmp_path: Path, name: str, policy: str,
    damage: Callable[[Path], None],
) -> None:  # fmt: skip
    config, store = tiny_settings(on_damage=policy), tmp_path / "caches"
    engine = make_engine(config=config)
    engine.ingest([CAT, HEN])
    before = documents_of(store)
    damage(value_of(engine, store, "cat", name))
    damage(value_of(engine, store, "cat", "l2-2"))

    (cat, hen) = make_engine(config=config).ingest([CAT, HEN])

    assert (cat.encoded_tokens > 0, hen.encoded_tokens) == (True, 0)
    assert documents_of(store) == before


@pytest.mark.parametrize("adapter", [None, "none"], ids=["landmarks", "training-free"])
@pytest.mark.parametrize("policy", ["recompute", "raise"])
@pytest.mark.parametrize("name", ["l1-1", "l2-0", "l2-1"])
def test_what_was_changed_in_place_is_mended_where_a_check_is_wished(
    make_engine: MakeEngine, tmp_path: Path, name: str, policy: str, adapter: str | None
) -> None:
    config, store = tiny_settings(on_damage=policy), tmp_path / "caches"
    engine = make_engine(adapter=adapter, config=config)
    engine.ingest([CAT])
    before = documents_of(store)
    _flip(value_of(engine, store, "cat", name))

    # Sizes alone do not tell.
    assert engine.ingest([CAT])[0].encoded_tokens == 0
    (done,) = engine.ingest([CAT], check=True)

    assert 0 < done.encoded_tokens < done.tokens
    assert documents_of(store) == before
    assert engine.ingest([CAT], check=True)[0].encoded_tokens == 0


def test_one_value_of_a_wrong_size_has_all_others_of_the_document_checked(
    make_engine: MakeEngine, tmp_path: Path
) -> None:
    engine, store = make_engine(), tmp_path / "caches"
    engine.ingest([CAT])
    before = documents_of(store)
    _flip(value_of(engine, store, "cat", "l1-0"))
    _cut(value_of(engine, store, "cat", "l2-2"))

    engine.ingest([CAT])

    assert documents_of(store) == before


def test_a_question_mends_what_it_needs_though_other_values_are_missing_too(
    make_engine: MakeEngine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine, store = make_engine(), tmp_path / "caches"
    engine.ingest([CAT])
    blocks = sorted(folder_of(engine, store, "cat").glob("*/l2-*"))
    before = documents_of(store)
    for block in blocks:
        block.unlink()

    usage = make_engine().ask(QUESTION, refill_tokens=4, max_new_tokens=1).usage

    assert 0 < usage.recomputed_tokens < usage.document_tokens
    back = {name: data for name, data in documents_of(store).items() if "l2-" in name}
    assert back
    assert back.items() <= before.items()
    assert "could not be mended" not in caplog.text


def test_every_remedy_that_damage_names_helps(make_engine: MakeEngine, tmp_path: Path) -> None:
    strict, store = tiny_settings(on_damage="raise"), tmp_path / "caches"
    engine = make_engine(config=strict)
    engine.ingest([CAT])
    expected = engine.ask(QUESTION, max_new_tokens=NEW).text
    remedy = (
        "ingest the document again with --check (check=True in Python), or ask it with "
        "on_damage='recompute', as acre ask does"
    )

    for damage in DAMAGE:
        for mend in ("ingest", "ask"):
            damage(value_of(engine, store, "cat", "l2-1"))
            with pytest.raises(DamagedCacheError) as caught:
                engine.ask(QUESTION, max_new_tokens=NEW)
            assert str(caught.value) == f"{caught.value.fact}; {remedy}"
            assert caught.value.fact.startswith("l2:1 of document 'cat': found ")
            if mend == "ingest":
                engine.ingest([CAT], check=True)
            else:
                make_engine().ask(QUESTION, max_new_tokens=NEW)
            assert engine.ask(QUESTION, max_new_tokens=NEW).text == expected


def test_many_damaged_values_are_one_warning_that_names_no_remedy(
    make_engine: MakeEngine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine, store = make_engine(), tmp_path / "caches"
    engine.ingest([CAT])
    blocks = sorted(folder_of(engine, store, "cat").glob("*/l2-*"))
    for block in blocks:
        _cut(block)

    engine.ask(QUESTION, max_new_tokens=1)

    (record,) = caplog.records
    assert record.message.startswith(
        f"{len(blocks)} of {len(blocks)} values of document 'cat' that a question needs are "
        "missing or damaged (l2:0 of document 'cat': found "
    )
    assert record.message.endswith("; reading their tokens again from its text")
    assert "on_damage" not in record.message
    assert len(blocks) > 1


OTHERS = {
    "weights": lambda local: {"model": _changed(local)},
    "family": lambda _: {"model": tiny_local("qwen2")},
    "adapter": lambda local: {"adapter": tiny_adapter(local.model.config, "full")},
    "no-adapter": lambda _: {"adapter": "none"},
    "introduction": lambda _: {
        "config": tiny_settings(prompt=replace(SHORT_PROMPT, introduction="Look.\n"))
    },
    **{
        name: lambda _, change=change: {"config": tiny_settings(**change)}
        for name, change in {
            "stored-dtype": {"stored_dtype": "bfloat16"},
            "stored-form": {"stored_dtype": "int8"},
            "window": {"window_tokens": 24},
            "segment": {"segment_tokens": 12},
        }.items()
    },
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_a_cache_that_was_made_with_anything_else_is_a_miss(
    make_engine: MakeEngine,
    local: LocalModel,
    change: Callable[[LocalModel], dict[str, object]],
) -> None:
    make_engine().ingest([CAT])

    other = make_engine(**change(local))

    with pytest.raises(DocumentNotFoundError):
        other.ask(QUESTION, ["cat"])
    assert other.ingest([CAT])[0].encoded_tokens > 0


def _changed(local: LocalModel) -> LocalModel:
    other = tiny_local(local.name)
    with torch.no_grad():
        other.model.model.layers[0].self_attn.v_proj.weight[1, 2] += 0.125
    return other
