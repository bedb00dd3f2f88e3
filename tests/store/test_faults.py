"""An ingest that fails or dies at any call of its store: the old document, the new one, or none."""

import os
from multiprocessing.context import ForkServerContext

import pytest

from acre_rag.engine import ACREEngine
from acre_rag.engine.ingest import Ingestion
from acre_rag.errors import StoreError
from acre_rag.model.reader import DocumentReader
from acre_rag.store import CacheArchive, CacheStore
from acre_rag.store.checking import check_documents
from acre_rag.text.document import Document
from tests.store.faults import FaultyStore, When
from tests.store.places import Place
from tests.tiny import tiny_adapter, tiny_local, tiny_settings

OLD = Document(id="farm", text="one red hen lays ten eggs in the old barn and sings")
NEW = Document(id="farm", text="one fox saw the hen and went on, then it slept all day")
NEVER = -1
PUBLISHED = [pytest.param(True, id="replaced"), pytest.param(False, id="first")]


def engine_over(store: CacheStore) -> ACREEngine:
    local = tiny_local("llama")
    settings = tiny_settings(window_tokens=24, segment_tokens=48)
    return ACREEngine(local, tiny_adapter(local.model.config), store, settings)


def fail() -> None:
    raise StoreError("the store failed; expected it to work: try again")


def die() -> None:
    os._exit(9)


def ingest_and_die(place: Place, at: int, when: When) -> None:
    engine_over(FaultyStore(place.open(), die, at=at, when=when)).ingest([NEW])


def texts_in(engine: ACREEngine) -> list[str]:
    """Texts of the documents that a reader finds, every value of which it has verified."""
    assert [checked.damages for checked in check_documents(engine.store) if checked.damages] == []
    archive = CacheArchive(engine.store, engine.reader.identity.space)
    return [manifest.text for manifest in archive.manifests(strict=True)]


def ingest_into(store: CacheStore, reader: DocumentReader, document: Document) -> None:
    Ingestion(reader, CacheArchive(store, reader.identity.space)).ingest(document, None)


@pytest.fixture
def engine(store: CacheStore) -> ACREEngine:
    return engine_over(store)


@pytest.fixture
def published() -> bool:
    """Whether there is an older document."""
    return True


@pytest.fixture
def calls(store: CacheStore, engine: ACREEngine, published: bool) -> int:
    """Calls of an ingest that goes well."""
    counting = FaultyStore(store, fail, at=NEVER, when="before")
    if published:
        engine.ingest([OLD])
    ingest_into(counting, engine.reader, NEW)
    engine.delete("farm")
    return counting.calls


@pytest.mark.parametrize("published", PUBLISHED)
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_ingest_that_fails_at_any_call_leaves_the_old_document_or_the_new_one(
    store: CacheStore, engine: ACREEngine, calls: int, when: When, published: bool
) -> None:
    assert calls > 8

    for at in range(calls):
        engine.delete("farm")
        if published:
            engine.ingest([OLD])
        with pytest.raises(StoreError, match="the store failed"):
            ingest_into(FaultyStore(store, fail, at=at, when=when), engine.reader, NEW)

        assert texts_in(engine) in ([[OLD.text], [NEW.text]] if published else [[], [NEW.text]])
        engine.ingest([NEW])
        assert texts_in(engine) == [NEW.text]


@pytest.mark.parametrize("step", [6, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_ingest_that_dies_at_any_call_leaves_the_old_document_or_the_new_one(
    place: Place,
    engine: ACREEngine,
    calls: int,
    processes: ForkServerContext,
    when: When,
    step: int,
) -> None:
    for at in range(0, calls, step):
        engine.delete("farm")
        engine.ingest([OLD])
        writer = processes.Process(target=ingest_and_die, args=(place, at, when), daemon=True)
        writer.start()
        writer.join()
        assert writer.exitcode == 9
        place.release()

        assert texts_in(engine) in ([OLD.text], [NEW.text])
        engine.ingest([NEW])
        assert texts_in(engine) == [NEW.text]
