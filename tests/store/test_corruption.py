"""Whatever happens to stored bytes, a reader gets the right block or a typed error."""

from collections import Counter
from collections.abc import Callable
from contextlib import closing

import numpy as np
import pytest
from redis import Redis

from acre_rag.errors import DamagedCacheError
from acre_rag.store import CacheArchive, CacheStore, Manifest
from tests.store.places import EncryptedPlace, Place, RedisPlace
from tests.store.samples import DOCUMENT, OTHER_VERSION, SPACE, blocks_of, manifest_of, same_bits
from tests.store.servers import Server

MANIFESTS = (
    manifest_of(),
    manifest_of(document_id="other.md", version=OTHER_VERSION),
    manifest_of(space="ab" * 8, text="The same document, read by another model."),
)
FORMER = manifest_of(version="0ddba11" * 4 + "0ddb", text="What the same document said before.")
REASONS = {"missing", "truncated", "checksum", "header", "foreign"}


def publish(store: CacheStore, manifest: Manifest) -> None:
    archive = CacheArchive(store, manifest.space)
    with archive.writer(manifest.document_id, manifest.version) as writer:
        for name, block in blocks_of(manifest).items():
            writer.write_block(name, block)
        writer.publish(manifest)


def former_blocks(place: Place, store: CacheStore) -> list[bytes]:
    """Publish another version of a document, and take its blocks, valid where they were."""
    publish(store, FORMER)
    return [place.take(place.called(name)) for name in FORMER.block_names]


def damage(
    place: Place, values: list[str], former: list[bytes], generator: np.random.Generator
) -> list[str]:
    """Hurt one value, swap two, or put one in place of another version's; which ones?"""
    value, other = generator.choice(values, size=2, replace=False)
    data = bytearray(place.take(value))
    match generator.integers(7):
        case 0:
            data[generator.integers(len(data))] ^= 1 << generator.integers(8)
            place.put(value, bytes(data))
        case 1:
            place.put(value, bytes(data[: generator.integers(len(data))]))
        case 2:
            start, end = np.sort(generator.integers(len(data) + 1, size=2))
            data[start:end] = generator.bytes(end - start + 1)
            place.put(value, bytes(data))
        case 3:
            place.put(value, bytes(data) + generator.bytes(1 + generator.integers(9)))
        case 4:
            place.remove(value)
        case 5:
            place.put(value, place.take(other))
            place.put(other, bytes(data))
            return [value, other]
        case 6:
            place.put(value, former[generator.integers(len(former))])
    return [value]


def read_all(store: CacheStore, manifest: Manifest, outcomes: Counter[str]) -> None:
    archive = CacheArchive(store, manifest.space)
    try:
        found = archive.load_manifest(manifest.document_id)
        assert found in (None, manifest)
        outcomes["right" if found else "none"] += 1
    except DamagedCacheError as error:
        outcomes[error.reason] += 1
    for name, block in blocks_of(manifest).items():
        try:
            assert same_bits(archive.read_block(manifest, name), block)
            outcomes["right"] += 1
        except DamagedCacheError as error:
            outcomes[error.reason] += 1


@pytest.mark.parametrize("rounds", [150, pytest.param(3_000, marks=pytest.mark.slow)])
def test_no_damage_yields_a_wrong_tensor(place: Place, store: CacheStore, rounds: int) -> None:
    generator = np.random.default_rng(1)
    former = former_blocks(place, store)
    for manifest in MANIFESTS:
        publish(store, manifest)
    values = place.values()
    pristine = {value: place.take(value) for value in values}
    outcomes: Counter[str] = Counter()

    for _ in range(rounds):
        hurt = damage(place, values, former, generator)
        before = outcomes["right"]
        for manifest in MANIFESTS:
            read_all(store, manifest, outcomes)
        assert outcomes["right"] - before == len(values) - len(hurt)
        for value in hurt:
            place.put(value, pristine[value])

    # Who has no key cannot tell a value of another place from noise.
    expected = REASONS - ({"foreign"} if isinstance(place, EncryptedPlace) else set())
    assert expected <= outcomes.keys() <= expected | {"format", "right", "none"}


def test_a_repaired_document_is_whole_again(place: Place, store: CacheStore) -> None:
    manifest = MANIFESTS[0]
    publish(store, manifest)
    for value in place.values():
        place.put(value, b"garbage")

    publish(store, manifest)

    outcomes: Counter[str] = Counter()
    read_all(store, manifest, outcomes)
    assert outcomes == {"right": 1 + len(manifest.block_names)}
    assert CacheArchive(store, SPACE).load_manifest(DOCUMENT) == manifest


def test_a_stale_manifest_leads_to_no_block_of_its_successor(
    place: Place, store: CacheStore
) -> None:
    publish(store, FORMER)
    stale = place.take(place.called("manifest"))
    publish(store, MANIFESTS[0])
    place.put(place.called("manifest"), stale)
    archive = CacheArchive(store, SPACE)
    outcomes: Counter[str] = Counter()

    assert archive.load_manifest(DOCUMENT) == FORMER
    read_all(store, FORMER, outcomes)

    assert outcomes == {"right": 1, "missing": len(FORMER.block_names)}


_OTHER_TYPES: dict[str, Callable[[Redis, str], object]] = {
    "list": lambda client, key: client.rpush(key, "x"),
    "hash": lambda client, key: client.hset(key, "x", "y"),
    "set": lambda client, key: client.sadd(key, "x"),
    "sorted set": lambda client, key: client.zadd(key, {"x": 1}),
    "stream": lambda client, key: client.xadd(key, {"x": "y"}),
}


@pytest.mark.redis
@pytest.mark.parametrize("buffers", ["fresh", "reused"])
@pytest.mark.parametrize("kind", _OTHER_TYPES)
def test_a_value_of_another_type_is_damage(redis_server: Server, kind: str, buffers: str) -> None:
    place = RedisPlace(f"{redis_server.url}?buffers={buffers}")
    manifest = MANIFESTS[0]
    with closing(place.open()) as store, Redis(port=redis_server.port) as client:
        publish(store, manifest)
        for value in place.values():
            pristine = place.take(value)
            client.delete(value)
            _OTHER_TYPES[kind](client, value)
            outcomes: Counter[str] = Counter()
            read_all(store, manifest, outcomes)
            assert outcomes == {"right": len(manifest.block_names), "truncated": 1}
            client.delete(value)
            place.put(value, pristine)
