"""Whole stores copied, checked and counted, between every two kinds of them."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from acre_rag.errors import StoreError
from acre_rag.store import (
    CacheArchive,
    CacheStore,
    DirectoryStore,
    EncryptedStore,
    Manifest,
    StoreKey,
)
from acre_rag.store.checking import Holdings, check_documents, holdings
from acre_rag.store.copying import copy_documents
from tests.store.places import DirectoryPlace, EncryptedPlace, Place, RedisPlace
from tests.store.samples import OTHER_VERSION, SPACE, VERSION, blocks_of, manifest_of
from tests.store.servers import Server

OTHER_SPACE = "ab" * 8
MANIFESTS = (
    manifest_of(),
    manifest_of(document_id="caf\udce9.txt", version=OTHER_VERSION, metadata={"page": 3}),
    manifest_of(space=OTHER_SPACE, text="The same document, read by another model."),
)


def publish(store: CacheStore, manifest: Manifest) -> None:
    archive = CacheArchive(store, manifest.space)
    with archive.writer(manifest.document_id, manifest.version) as writer:
        for name, block in blocks_of(manifest).items():
            writer.write_block(name, block)
        writer.publish(manifest)


def everything_in(store: CacheStore) -> dict[tuple[str, ...], bytes]:
    """All published bytes, by space, document and name."""
    found = {}
    for space in store.spaces():
        for digest, data in store.manifests(space):
            found[space, digest, "manifest"] = data
            manifest = Manifest.decode_listed(data, space=space, digest=digest)
            place = (space, manifest.document_id, manifest.version)
            for name in manifest.block_names:
                found[space, digest, name] = bytes(store.read(*place, name))
    return found


@pytest.fixture
def filled(store: CacheStore) -> CacheStore:
    """A store of every kind, with three documents in two spaces."""
    for manifest in MANIFESTS:
        publish(store, manifest)
    return store


@pytest.fixture(
    params=["directory", pytest.param("redis", marks=pytest.mark.redis)],
)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CacheStore]:
    """An empty store of every kind."""
    if request.param == "directory":
        opened: CacheStore = DirectoryPlace(tmp_path / "copy").open()
    else:
        server: Server = request.getfixturevalue("redis_server")
        opened = RedisPlace(server.url, namespace="copy").open()
    yield opened
    opened.close()


def outcomes(source: CacheStore, target: CacheStore) -> list[str]:
    return [copied.outcome for copied in copy_documents(source, target)]


def test_a_copy_has_every_byte_of_every_document(filled: CacheStore, target: CacheStore) -> None:
    before = everything_in(filled)

    assert outcomes(filled, target) == ["copied"] * 3

    assert everything_in(target) == everything_in(filled) == before
    assert len(before) == sum(1 + len(manifest.block_names) for manifest in MANIFESTS)


def test_what_is_there_already_is_not_copied_again(filled: CacheStore, target: CacheStore) -> None:
    list(copy_documents(filled, target))

    again = list(copy_documents(filled, target))

    assert [(copied.outcome, copied.bytes) for copied in again] == [("present", 0)] * 3


def test_an_interrupted_copy_goes_on_where_it_stopped(
    filled: CacheStore, target: CacheStore
) -> None:
    whole = sum(copied.bytes for copied in copy_documents(filled, target))
    for manifest in MANIFESTS:
        target.delete(manifest.space, manifest.document_id)

    def interrupt(_document: str, done: int, _total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        list(copy_documents(filled, target, interrupt))
    assert everything_in(target) == {}
    rest = sum(copied.bytes for copied in copy_documents(filled, target))

    assert 0 < rest < whole
    assert everything_in(target) == everything_in(filled)


def test_values_that_an_interrupted_copy_left_damaged_are_copied_again(
    filled: CacheStore, target: CacheStore
) -> None:
    manifest = MANIFESTS[0]
    with target.writer(SPACE, manifest.document_id, VERSION) as writer:
        writer.write("l1:0", [b"garbage"])

    assert outcomes(filled, target) == ["copied"] * 3

    assert everything_in(target) == everything_in(filled)


def test_another_version_in_the_target_is_replaced(filled: CacheStore, target: CacheStore) -> None:
    publish(target, manifest_of(version="cd" * 8, text="An older text, of one more page."))

    list(copy_documents(filled, target))

    assert everything_in(target) == everything_in(filled)


def test_newer_metadata_is_copied_without_the_values(
    filled: CacheStore, target: CacheStore
) -> None:
    list(copy_documents(filled, target))
    with filled.writer(SPACE, MANIFESTS[0].document_id, VERSION) as writer:
        writer.publish(replace(MANIFESTS[0], metadata={"page": 4}).encode())

    again = [c for c in copy_documents(filled, target) if c.outcome == "copied"]

    assert [copied.bytes for copied in again] == [0]
    assert everything_in(target) == everything_in(filled)


@pytest.mark.parametrize("name", ["l1:0", "l2:2", "manifest"])
@pytest.mark.parametrize("hurt", ["flip", "remove"])
def test_damage_is_left_out_and_named(
    place: Place, filled: CacheStore, target: CacheStore, name: str, hurt: str
) -> None:
    value = place.called(name)
    if hurt == "flip":
        data = place.take(value)
        place.put(value, data[:-1] + bytes([data[-1] ^ 1]))
    else:
        place.remove(value)

    damaged = [copied for copied in copy_documents(filled, target) if copied.outcome == "damaged"]
    checked = [damage for document in check_documents(filled) for damage in document.damages]

    if (name, hurt) == ("manifest", "remove"):  # then there is no such document
        assert damaged == checked == []
    else:
        assert [copied.damage.value for copied in damaged] == [name]
        assert [damage.value for damage in checked] == [name]
        # Nothing is left of a manifest that cannot be decrypted.
        flipped = {"checksum", "truncated"} if name == "manifest" else {"checksum"}
        assert checked[0].reason in (flipped if hurt == "flip" else {"missing"})
    assert len(list(check_documents(target))) == 2
    assert not any(document.damages for document in check_documents(target))


def test_a_document_in_the_place_of_another_is_foreign(place: Place, filled: CacheStore) -> None:
    first, second = [value for value in place.values() if "manifest" in value and SPACE in value]
    place.put(first, place.take(second))

    found = {checked.document: checked.damages for checked in check_documents(filled)}

    (reason,) = [damage.reason for damages in found.values() for damage in damages]
    assert reason == ("truncated" if isinstance(place, EncryptedPlace) else "foreign")


class Replacing:
    """A store in which something happens at the first read."""

    def __init__(self, store: CacheStore, happening: Callable[[], object]) -> None:
        self._store = store
        self._happening: Callable[[], object] | None = happening
        self.url = store.url

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def read(self, space: str, document_id: str, version: str, name: str) -> memoryview:
        if self._happening is not None:
            happening, self._happening = self._happening, None
            happening()
        return self._store.read(space, document_id, version, name)


def test_a_document_that_is_replaced_meanwhile_is_copied_and_checked_as_it_then_is(
    store: CacheStore, target: CacheStore
) -> None:
    newer = manifest_of(version=OTHER_VERSION, text="A newer text of just as many pages.")
    for act in (lambda s: outcomes(s, target), lambda s: list(check_documents(s))):
        publish(store, manifest_of())
        done = act(Replacing(store, lambda: publish(store, newer)))

        if done != ["copied"]:
            (checked,) = done
            assert checked.damages == ()
        store.delete(SPACE, newer.document_id)

    assert [data for _, data in target.manifests(SPACE)] == [newer.encode()]


def test_a_document_that_is_deleted_meanwhile_is_passed_over(
    store: CacheStore, target: CacheStore
) -> None:
    for act in (lambda s: outcomes(s, target), lambda s: list(check_documents(s))):
        publish(store, manifest_of())

        done = act(Replacing(store, lambda: store.delete(SPACE, manifest_of().document_id)))

        assert done == []
    assert everything_in(target) == {}


def test_a_check_reads_every_value(filled: CacheStore) -> None:
    seen: list[tuple[str, int, int]] = []

    checked = list(check_documents(filled, lambda *progress: seen.append(progress)))

    assert [document.damages for document in checked] == [()] * 3
    assert sum(document.bytes for document in checked) == sum(
        map(len, everything_in(filled).values())
    )
    names = len(MANIFESTS[0].block_names)
    assert [total for _, _, total in seen] == [names] * names * 3
    assert sorted({document for document, _, _ in seen}) == sorted(
        {manifest.document_id for manifest in MANIFESTS}
    )


def test_holdings_are_counted_by_space(filled: CacheStore) -> None:
    found = holdings(filled)

    assert sorted(found, key=lambda held: held.space) == [
        Holdings(
            space=SPACE, model="tiny", method="landmarks", dtype="bfloat16",
            documents=2, tokens=22, bytes=_size(MANIFESTS[0]) + _size(MANIFESTS[1]),
        ),
        Holdings(
            space=OTHER_SPACE, model="tiny", method="landmarks", dtype="bfloat16",
            documents=1, tokens=11, bytes=_size(MANIFESTS[2]),
        ),
    ]  # fmt: skip


def _size(manifest: Manifest) -> int:
    return manifest.payload_bytes + len(manifest.encode())


def test_an_empty_store_has_nothing_to_copy_check_or_count(
    store: CacheStore, target: CacheStore
) -> None:
    assert outcomes(store, target) == []
    assert list(check_documents(store)) == []
    assert holdings(store) == []


def test_a_target_that_cannot_be_written_ends_the_copy(tmp_path: Path, filled: CacheStore) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")

    with pytest.raises(StoreError, match="expected"):
        outcomes(filled, DirectoryStore(tmp_path / "file" / "below"))


def test_an_encrypted_target_takes_nothing_without_its_key(
    tmp_path: Path, filled: CacheStore
) -> None:
    within = DirectoryStore(tmp_path / "locked")
    publish(EncryptedStore(within, StoreKey("5a" * 32)), manifest_of())
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "locked").rglob("*")}

    with pytest.raises(StoreError, match="is encrypted; expected its key"):
        list(copy_documents(filled, within))

    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "locked").rglob("*")}
    assert after == before
