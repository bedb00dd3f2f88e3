"""Reading from a store is measured in the way that a question reads, and explained exactly."""

from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import pytest

from acre_rag.engine import measure_store as measuring
from acre_rag.engine.measure_store import measure_store
from acre_rag.errors import DamagedCacheError, StoreError
from acre_rag.store import CacheArchive, DirectoryStore, Manifest
from benchmarks.stored_document import SPACE, fill, manifest_of

LATENCY, PER_VALUE, PER_BYTE = 3.0, 0.25, 1e-3


class TimedStore(DirectoryStore):
    """A store on a clock of its own: a run of values costs its latency once."""

    def __init__(self, path: Path, *, latency: float = 0.0) -> None:
        super().__init__(path)
        self.now = 0.0
        self.runs: list[list[str]] = []
        self.fails_at: int | None = None
        self._latency = latency

    def read(self, *_: object) -> memoryview:
        raise AssertionError("a question reads no single values")

    def read_each(
        self, space: str, document_id: str, version: str, names: Sequence[str]
    ) -> Generator[memoryview | DamagedCacheError, None, None]:
        if len(self.runs) == self.fails_at:
            raise StoreError("gone")
        self.runs.append(list(names))
        self.now += self._latency
        for name in names:
            value = DirectoryStore.read(self, space, document_id, version, name)
            self.now += PER_VALUE + PER_BYTE * value.nbytes
            yield value


MakeStore = Callable[..., TimedStore]


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """20 windows of landmarks, 1,280 blocks of raw tokens."""
    stored = manifest_of((2, 1, 8, 1), 20 * 1024, "int8")
    fill(str(tmp_path), stored)
    return stored


@pytest.fixture
def make_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeStore:
    def make(**options: float) -> TimedStore:
        store = TimedStore(tmp_path, **options)
        monkeypatch.setattr(measuring.time, "perf_counter", lambda: store.now)
        monkeypatch.setattr(measuring, "_MOST_SECONDS", 1e9)
        return store

    return make


def test_what_a_value_and_a_byte_cost_is_found(manifest: Manifest, make_store: MakeStore) -> None:
    store = make_store()

    speeds = measure_store(CacheArchive(store, SPACE), [manifest])

    assert speeds is not None
    assert speeds.per_value == pytest.approx(PER_VALUE)
    assert speeds.per_byte == pytest.approx(PER_BYTE)


def test_a_latency_that_a_question_meets_once_is_not_put_down_to_every_value(
    manifest: Manifest, make_store: MakeStore
) -> None:
    store = make_store(latency=LATENCY)
    archive = CacheArchive(store, SPACE)
    speeds = measure_store(archive, [manifest])
    names = manifest.block_names[-16:]

    before, read_before = store.now, archive.bytes_read
    list(archive.read_blocks(manifest, names))
    truly = store.now - before

    assert speeds is not None
    predicted = speeds.seconds(16, archive.bytes_read - read_before)
    assert predicted == pytest.approx(truly, rel=0.05)
    assert predicted < truly + 2 * LATENCY  # one by one they would take 15 more


def test_each_value_is_read_once_and_few_are(manifest: Manifest, make_store: MakeStore) -> None:
    store = make_store()

    measure_store(CacheArchive(store, SPACE), [manifest])

    read = [name for run in store.runs for name in run]
    assert len(set(read)) == len(read) <= 128 + 16
    assert len(store.runs[0]) == 1  # it opens what the others find open
    assert {name[:2] for name in read} == {"l1", "l2"}


def test_damage_costs_its_time_and_stops_nothing(
    manifest: Manifest, make_store: MakeStore, tmp_path: Path
) -> None:
    store = make_store()
    for file in tmp_path.glob("*/*/*/l1-0"):
        file.write_bytes(b"garbage")

    speeds = measure_store(CacheArchive(store, SPACE), [manifest])

    assert speeds is not None
    assert len(store.runs) > 2


def test_an_outage_ends_it_with_what_was_found_before(
    manifest: Manifest, make_store: MakeStore
) -> None:
    store = make_store()
    store.fails_at = 3

    speeds = measure_store(CacheArchive(store, SPACE), [manifest])

    assert speeds is not None
    assert len(store.runs) == 3
    # It still is away.
    assert measure_store(CacheArchive(store, SPACE), [manifest]) is None
