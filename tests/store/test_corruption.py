"""Whatever happens to stored bytes, a reader gets the right block or a typed error."""

from collections import Counter

import numpy as np
import pytest

from acre_rag.errors import DamagedCacheError
from acre_rag.store import CacheArchive, CacheStore, Manifest
from tests.store.places import EncryptedPlace, Place
from tests.store.samples import DOCUMENT, OTHER_VERSION, SPACE, blocks_of, manifest_of, same_bits

MANIFESTS = (
    manifest_of(),
    manifest_of(document_id="other.md", version=OTHER_VERSION),
    manifest_of(space="ab" * 8, text="The same document, read by another model."),
)
REASONS = {"missing", "truncated", "checksum", "header", "foreign"}


def publish(store: CacheStore, manifest: Manifest) -> None:
    archive = CacheArchive(store, manifest.space)
    with archive.writer(manifest.document_id, manifest.version) as writer:
        for name, block in blocks_of(manifest).items():
            writer.write_block(name, block)
        writer.publish(manifest)


def damage(place: Place, values: list[str], generator: np.random.Generator) -> list[str]:
    """Hurt one value, or swap two; which ones?"""
    value, other = generator.choice(values, size=2, replace=False)
    data = bytearray(place.take(value))
    match generator.integers(6):
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
    for manifest in MANIFESTS:
        publish(store, manifest)
    values = place.values()
    pristine = {value: place.take(value) for value in values}
    outcomes: Counter[str] = Counter()

    for _ in range(rounds):
        hurt = damage(place, values, generator)
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
