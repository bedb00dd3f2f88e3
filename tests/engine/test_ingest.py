import subprocess
import sys
import threading
from pathlib import Path

import pytest

from acre_rag.engine import ACREEngine
from acre_rag.errors import DocumentError, DocumentNotFoundError
from acre_rag.text.document import Document, content_id
from tests.conftest import MakeEngine
from tests.engine.texts import ALL, CAT, FOX, HEN, QUESTION, documents_of, folder_of
from tests.tiny import tiny_settings


def _without_created(files: dict[str, bytes]) -> dict[str, bytes]:
    """Leave out manifests: they say when they were made."""
    return {name: data for name, data in files.items() if not name.endswith("manifest")}


class _Stop(Exception):  # noqa: N818  # no error
    """Stops a run from outside."""


def _stop_after(windows: int, error: type[BaseException] = _Stop) -> object:
    seen = []

    def note(*_: object) -> None:
        seen.append(_)
        if len(seen) == windows:
            raise error

    return note


def test_a_document_is_read_once_and_counted(make_engine: MakeEngine) -> None:
    engine = make_engine()

    (first,) = engine.ingest([CAT])
    (again,) = engine.ingest([CAT])

    assert (
        first.encoded_tokens
        == first.tokens
        == len(engine.reader.frame.encode_with_offsets(CAT.text)[0])
    )
    assert (again.tokens, again.encoded_tokens) == (first.tokens, 0)


_OTHER_PROCESS = """
import sys
from acre_rag.engine import ACREEngine
from tests.engine.texts import CAT, QUESTION
from tests.tiny import tiny_adapter, tiny_local, tiny_settings
local = tiny_local("llama")
engine = ACREEngine(local, tiny_adapter(local.model.config), sys.argv[1], tiny_settings())
usage = engine.ask(QUESTION, max_new_tokens=3).usage
print(usage.encoded_tokens, usage.recomputed_tokens, engine.ingest([CAT])[0].encoded_tokens)
print(engine.ask(QUESTION, max_new_tokens=3).text)
"""


def test_another_process_reads_nothing_again(make_engine: MakeEngine, tmp_path: Path) -> None:
    engine = make_engine()
    engine.ingest([CAT])

    done = subprocess.run(
        [sys.executable, "-c", _OTHER_PROCESS, str(tmp_path / "caches")],
        capture_output=True, text=True, check=True, timeout=240,
    )  # fmt: skip

    counts, _, text = done.stdout.partition("\n")
    assert counts == "0 0 0"
    assert text.strip() == engine.ask(QUESTION, max_new_tokens=3).text


def test_a_changed_document_replaces_its_old_cache_and_no_other(
    make_engine: MakeEngine, tmp_path: Path
) -> None:
    engine = make_engine()
    engine.ingest([CAT, HEN])
    before = documents_of(tmp_path / "caches")
    hen = folder_of(engine, tmp_path / "caches", "hen").name

    (changed,) = engine.ingest([Document(id="cat", text=CAT.text + " again")])

    after = documents_of(tmp_path / "caches")
    assert changed.encoded_tokens == changed.tokens
    assert {k: v for k, v in after.items() if hen in k} == {
        k: v for k, v in before.items() if hen in k
    }
    assert not set(_without_created(after)) & {
        name for name in _without_created(before) if hen not in name
    }
    assert "".join(s.text for s in engine.retrieve(QUESTION, ["cat"]).sources).endswith("again")


def test_changed_metadata_is_stored_without_reading(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.ingest([CAT])

    (done,) = engine.ingest([Document(id="cat", text=CAT.text, metadata={"page": [1, 2]})])

    assert done.encoded_tokens == 0
    (stored,) = engine.documents()
    assert stored.metadata == {"page": [1, 2]}


def test_a_stored_document_names_its_text_as_a_passage_would(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.ingest([CAT, HEN])

    named = {stored.id: stored.content_id for stored in engine.documents()}

    assert named == {d.id: Document.passage(d.text).id for d in (CAT, HEN)}


def test_texts_are_digested_once_however_often_they_are_listed(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    engine.ingest([CAT, HEN])
    digested = []

    def counted(text: str) -> str:
        digested.append(text)
        return content_id(text)

    monkeypatch.setattr("acre_rag.engine.listing.content_id", counted)
    first = list(engine.documents())
    assert list(engine.documents([one.id for one in first])) == first
    assert sorted(digested) == sorted([CAT.text, HEN.text])

    engine.ingest([Document(id="cat", text=HEN.text)])  # another version
    assert {one.content_id for one in engine.documents()} == {content_id(HEN.text)}
    assert len(digested) == 3


def test_a_missing_value_is_read_again_when_the_document_is_handed_over(
    make_engine: MakeEngine, tmp_path: Path
) -> None:
    engine = make_engine()
    engine.ingest([CAT])
    before = documents_of(tmp_path / "caches")
    next(folder_of(engine, tmp_path / "caches", "cat").glob("*/l1-1")).unlink()

    (done,) = engine.ingest([Document(id="cat", text=CAT.text, metadata={"page": 1})])

    assert done.encoded_tokens == engine.config.window_tokens
    after = documents_of(tmp_path / "caches")
    assert _without_created(after) == _without_created(before)


@pytest.mark.parametrize("adapter", [None, "none"], ids=["landmarks", "training-free"])
@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
@pytest.mark.parametrize("windows", [1, 2, 3])
def test_an_interrupted_run_is_picked_up_to_the_same_bits(
    make_engine: MakeEngine, tmp_path: Path, windows: int, stored: str, adapter: str | None
) -> None:
    config = tiny_settings(stored_dtype=stored)
    whole = make_engine(adapter=adapter, config=config, store=tmp_path / "whole")
    broken = make_engine(adapter=adapter, config=config, store=tmp_path / "broken")
    whole.ingest([CAT])

    with pytest.raises(_Stop):
        broken.ingest([CAT], on_progress=_stop_after(windows))
    assert list(broken.documents()) == []
    (resumed,) = make_engine(adapter=adapter, config=config, store=tmp_path / "broken").ingest(
        [CAT]
    )

    assert resumed.encoded_tokens == resumed.tokens - windows * config.window_tokens
    assert _without_created(documents_of(tmp_path / "broken")) == _without_created(
        documents_of(tmp_path / "whole")
    )


@pytest.mark.parametrize("adapter", [None, "none"], ids=["landmarks", "training-free"])
@pytest.mark.parametrize("stored", ["int8", "int8-int4"])
def test_an_interrupted_run_of_quantized_caches_ends_with_the_same_bits(
    make_engine: MakeEngine, tmp_path: Path, stored: str, adapter: str | None
) -> None:
    config = tiny_settings(stored_dtype=stored)
    whole = make_engine(adapter=adapter, config=config, store=tmp_path / "whole")
    broken = make_engine(adapter=adapter, config=config, store=tmp_path / "broken")
    whole.ingest([CAT])

    with pytest.raises(_Stop):
        broken.ingest([CAT], on_progress=_stop_after(2))
    broken.ingest([CAT])

    assert _without_created(documents_of(tmp_path / "broken")) == _without_created(
        documents_of(tmp_path / "whole")
    )


@pytest.mark.parametrize("stored", ["int8", "int8-int4"])
def test_quantized_caches_choose_what_exact_ones_do(
    make_engine: MakeEngine, tmp_path: Path, stored: str
) -> None:
    exact, small = (
        make_engine(config=tiny_settings(stored_dtype=form), store=tmp_path / form)
        for form in ("bfloat16", stored)
    )
    for engine in (exact, small):
        engine.ingest(ALL)

    ours, theirs = (engine.ask(QUESTION, max_new_tokens=2) for engine in (small, exact))

    assert ours.sources == theirs.sources
    assert ours.usage.refilled_tokens == theirs.usage.refilled_tokens > 0


@pytest.mark.parametrize("stored", ["bfloat16", "int8", "int8-int4"])
def test_the_size_of_a_cache_is_that_of_its_payloads(
    make_engine: MakeEngine, tmp_path: Path, stored: str
) -> None:
    engine = make_engine(config=tiny_settings(stored_dtype=stored))
    engine.ingest([CAT])

    (document,) = engine.documents()

    files = documents_of(tmp_path / "caches")
    values = [data for name, data in files.items() if not name.endswith("manifest")]
    # Offset 12 of a value's frame: the size of its payload.
    payloads = [int.from_bytes(data[12:20], "little") for data in values]
    assert document.bytes == sum(payloads)


def test_what_an_interrupted_run_left_damaged_is_read_again(
    make_engine: MakeEngine, tmp_path: Path
) -> None:
    whole = make_engine(store=tmp_path / "whole")
    engine = make_engine(store=tmp_path / "broken")
    whole.ingest([CAT])
    with pytest.raises(_Stop):
        engine.ingest([CAT], on_progress=_stop_after(2))
    (landmarks,) = (tmp_path / "broken").rglob("l1-0")
    landmarks.write_bytes(landmarks.read_bytes()[:-3])

    (resumed,) = engine.ingest([CAT])

    assert resumed.encoded_tokens == resumed.tokens - engine.config.window_tokens
    assert _without_created(documents_of(tmp_path / "broken")) == _without_created(
        documents_of(tmp_path / "whole")
    )


def test_ctrl_c_leaves_what_was_stored_and_nothing_half_visible(
    make_engine: MakeEngine,
) -> None:
    engine = make_engine()
    engine.ingest([CAT])
    before = engine.ask(QUESTION, max_new_tokens=3)

    with pytest.raises(KeyboardInterrupt):
        engine.ingest(
            [Document(id="cat", text=CAT.text + " again"), HEN],
            on_progress=_stop_after(2, KeyboardInterrupt),
        )

    assert [stored.id for stored in engine.documents()] == ["cat"]
    assert engine.ask(QUESTION, max_new_tokens=3).text == before.text
    assert engine.ingest([HEN])[0].encoded_tokens > 0


def test_an_id_that_comes_twice_is_refused_and_those_before_are_stored(
    make_engine: MakeEngine,
) -> None:
    engine = make_engine()

    with pytest.raises(DocumentError, match="comes twice"):
        engine.ingest(iter([CAT, HEN, Document(id="cat", text="other")]))

    assert {stored.id for stored in engine.documents()} == {"cat", "hen"}


def test_progress_counts_up_to_all_tokens(make_engine: MakeEngine) -> None:
    engine = make_engine()
    seen: list[tuple[str, int, int]] = []

    (done,) = engine.ingest([CAT], on_progress=lambda *step: seen.append(step))

    read = [tokens for _, tokens, _ in seen]
    assert {name for name, _, _ in seen} == {"cat"}
    assert read == sorted(read)
    assert seen[-1] == ("cat", done.tokens, done.tokens)


def test_documents_tell_what_is_stored(make_engine: MakeEngine, tmp_path: Path) -> None:
    engine = make_engine()
    (done,) = engine.ingest([CAT])

    (stored,) = engine.documents()

    assert (stored.id, stored.tokens, stored.method) == ("cat", done.tokens, "landmarks")
    assert stored.landmarks == -(-done.tokens // engine.config.interval_tokens)
    values = [file for file in (tmp_path / "caches").rglob("l*-*") if file.is_file()]
    headers = sum(file.stat().st_size for file in values) - stored.bytes
    assert 0 < headers < 500 * len(values)


def test_the_training_free_mode_says_so(make_engine: MakeEngine) -> None:
    engine = make_engine(adapter="none")
    engine.ingest([CAT])

    assert [stored.method for stored in engine.documents()] == ["training-free"]


def test_a_deleted_document_is_gone_and_others_stay(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.ingest([CAT, HEN])
    engine.ask(QUESTION, max_new_tokens=1)

    assert engine.delete("cat") is True
    assert engine.delete("cat") is False

    assert [stored.id for stored in engine.documents()] == ["hen"]
    with pytest.raises(DocumentNotFoundError, match="'cat'"):
        engine.ask(QUESTION, ["cat"])
    assert engine.ask(QUESTION, max_new_tokens=1).usage.encoded_tokens == 0


def test_threads_may_read_and_ask_at_once(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.ingest([CAT])
    expected = engine.ask(QUESTION, ["cat"], max_new_tokens=3).text
    answers: list[str] = []
    failures: list[BaseException] = []

    def run(task: object) -> None:
        try:
            task()  # type: ignore[operator]
        except BaseException as error:  # noqa: BLE001  # shown below
            failures.append(error)

    def ask(engine: ACREEngine = engine) -> None:
        answers.append(engine.ask(QUESTION, ["cat"], max_new_tokens=3).text)

    tasks = [ask, ask, ask, lambda: engine.ingest([HEN]), lambda: engine.ingest([FOX])]
    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert failures == []
    assert answers == [expected] * 3
    assert {stored.id for stored in engine.documents()} == {document.id for document in ALL}
