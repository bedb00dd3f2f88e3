"""Readers beside writers, deleters and killed processes: the old document, the new one, or none."""

import random
import threading
import time
from collections.abc import Callable
from itertools import count
from multiprocessing.context import ForkServerContext

import pytest

from acre_rag.errors import DamagedCacheError, StoreError
from acre_rag.store import CacheArchive, CacheStore, Manifest
from tests.store.places import Place
from tests.store.samples import SPACE, blocks_of, manifest_of, same_bits

DOCUMENT = "shared"


def numbered(number: int) -> Manifest:
    """A version of the document that cannot be mistaken for another one."""
    return manifest_of(
        document_id=DOCUMENT,
        version=f"{number:016x}",
        text=f"This is version number {number} of the document.",
    )


def write(store: CacheStore, manifest: Manifest) -> None:
    archive = CacheArchive(store, SPACE)
    with archive.writer(DOCUMENT, manifest.version) as writer:
        for name, block in blocks_of(manifest).items():
            writer.write_block(name, block)
        writer.publish(manifest)


def write_forever(place: Place, first: int) -> None:
    """Publish one version after another, until killed."""
    store = place.open(lock_seconds=30)
    for number in count(first):
        write(store, numbered(number))


def read_whole(store: CacheStore) -> Manifest | None:
    """Read the document; `None` when it is not there.

    Raises:
        DamagedCacheError: A value is missing, as it is when a new version was just published.
    """
    archive = CacheArchive(store, SPACE)
    manifest = archive.load_manifest(DOCUMENT)
    if manifest is not None:
        assert manifest == numbered(int(manifest.version, 16))
        for name, block in blocks_of(manifest).items():
            assert same_bits(archive.read_block(manifest, name), block)
    return manifest


class Crowd:
    """Threads that repeat what they do until told to stop."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.failures: list[BaseException] = []
        self._threads: list[threading.Thread] = []

    def add(self, place: Place, act: Callable[[CacheStore], None]) -> None:
        store = place.open(lock_seconds=30)

        def repeat() -> None:
            try:
                while not self.stop.is_set():
                    act(store)
            except (AssertionError, StoreError, OSError) as error:
                self.failures.append(error)
            finally:
                store.close()

        self._threads.append(threading.Thread(target=repeat))

    def run(self, seconds: float) -> None:
        for thread in self._threads:
            thread.start()
        self.stop.wait(seconds)
        self.stop.set()
        for thread in self._threads:
            thread.join()
        if self.failures:
            raise self.failures[0]


@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=pytest.mark.slow)])
def test_no_torn_reads_between_writers_readers_and_a_deleter(place: Place, seconds: int) -> None:
    numbers = count()
    seen = dict.fromkeys(("whole", "replaced", "none", "torn"), 0)

    def read(store: CacheStore) -> None:
        try:
            seen["none" if read_whole(store) is None else "whole"] += 1
        except DamagedCacheError as error:
            seen["replaced" if error.reason == "missing" else "torn"] += 1

    crowd = Crowd()
    for _ in range(2):
        crowd.add(place, lambda store: write(store, numbered(next(numbers))))
    for _ in range(8):
        crowd.add(place, read)
    crowd.add(place, lambda store: crowd.stop.wait(0.05) or store.delete(SPACE, DOCUMENT))

    crowd.run(seconds)

    assert seen["torn"] == 0
    assert seen["whole"] > 0
    assert next(numbers) > 4


@pytest.mark.parametrize("kills", [12, pytest.param(150, marks=pytest.mark.slow)])
def test_killed_writers_leave_the_old_document_or_the_new_one(
    place: Place, processes: ForkServerContext, kills: int
) -> None:
    generator = random.Random(0)  # noqa: S311  # no secret depends on it
    store = place.open(lock_seconds=30)
    write(store, numbered(0))
    latest = 0

    for kill in range(kills):
        first = latest + 1
        writer = processes.Process(target=write_forever, args=(place, first), daemon=True)
        writer.start()
        deadline = time.monotonic() + 60
        while int(read_latest(store).version, 16) < first and kill % 2:
            assert time.monotonic() < deadline
        time.sleep(generator.uniform(0, 0.03))
        writer.kill()
        writer.join()
        place.release()

        found = read_whole(store)
        assert found is not None
        latest = int(found.version, 16)

    write(store, numbered(latest + 1))
    assert read_whole(store) == numbered(latest + 1)
    store.close()


def read_latest(store: CacheStore) -> Manifest:
    manifest = CacheArchive(store, SPACE).load_manifest(DOCUMENT)
    assert manifest is not None
    return manifest
