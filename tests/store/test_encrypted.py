"""What an encrypted store hides, what it refuses, and how its bytes are read without it."""

import hashlib
import hmac
import pickle
import struct
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
import torch
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from redis import Redis

from acre_rag.errors import ConfigError, DamagedCacheError, StoreError
from acre_rag.store import (
    CacheArchive,
    CacheStore,
    DirectoryStore,
    EncryptedStore,
    StoreKey,
    open_plain_store,
    open_store,
    read_key,
)
from acre_rag.store.address import document_digest
from acre_rag.store.checking import check_documents
from acre_rag.store.copying import copy_documents
from acre_rag.store.key_mark import KEY_SPACE
from acre_rag.store.redis import RedisStore
from tests.store.places import KEY, EncryptedPlace
from tests.store.samples import DOCUMENT, SPACE, VERSION, blocks_of, manifest_of, same_bits
from tests.store.servers import Server

OTHER_KEY = "1e" * 32
MANIFEST = manifest_of()


def publish(store: CacheStore, document_id: str = DOCUMENT, space: str = SPACE) -> None:
    manifest = manifest_of(document_id=document_id)
    with CacheArchive(store, space).writer(document_id, VERSION) as writer:
        for name, block in blocks_of(manifest).items():
            writer.write_block(name, block)
        writer.publish(manifest)


@pytest.fixture
def place(tmp_path: Path) -> EncryptedPlace:
    """A place with one document."""
    made = EncryptedPlace(tmp_path / "caches")
    publish(made.open())
    return made


@pytest.fixture
def store(place: EncryptedPlace) -> CacheStore:
    return place.open()


def test_nothing_of_a_document_can_be_read_without_the_key(place: EncryptedPlace) -> None:
    files = [path for path in place.path.rglob("*") if path.is_file()]
    everything = b"".join(str(path).encode() + path.read_bytes() for path in files)
    digests = [hashlib.sha256(text.encode()).hexdigest()[:32] for text in (DOCUMENT, MANIFEST.text)]

    for secret in (DOCUMENT, MANIFEST.text[:10], VERSION, KEY, *digests):
        assert secret.encode() not in everything
    keys = [
        block.keys.view(torch.uint8).numpy().tobytes() for block in blocks_of(MANIFEST).values()
    ]
    assert not any(key in everything for key in keys)


def test_the_same_value_is_never_encrypted_the_same_way(
    place: EncryptedPlace, store: CacheStore
) -> None:
    before = [place.take(value) for value in place.values()]

    publish(store)

    assert not set(before) & {place.take(value) for value in place.values()}


READS: list[Callable[[CacheStore], object]] = [
    lambda store: store.load_manifest(SPACE, DOCUMENT),
    lambda store: store.read(SPACE, DOCUMENT, VERSION, "l1:0"),
    lambda store: list(store.manifests(SPACE)),
    lambda store: store.spaces(),
    lambda store: store.delete(SPACE, DOCUMENT),
    lambda store: publish(store, "another"),
]


@pytest.mark.parametrize("act", READS)
def test_a_wrong_key_gives_one_clear_error_and_changes_nothing(
    place: EncryptedPlace, store: CacheStore, act: Callable[[CacheStore], object]
) -> None:
    before = {path: path.read_bytes() for path in place.path.rglob("*") if path.is_file()}
    wrong = EncryptedPlace(place.path, OTHER_KEY).open()

    with pytest.raises(StoreError, match=r"a key that does not open .*pass that key") as caught:
        act(wrong)

    assert OTHER_KEY not in str(caught.value)
    assert {path: path.read_bytes() for path in place.path.rglob("*") if path.is_file()} == before
    assert store.load_manifest(SPACE, DOCUMENT) == MANIFEST.encode()


def test_without_a_key_nothing_is_written_and_the_key_is_asked_for(place: EncryptedPlace) -> None:
    plain = DirectoryStore(place.path)

    with pytest.raises(StoreError, match="is encrypted; expected its key"):
        publish(plain)
    with pytest.raises(DamagedCacheError, match="put it into ACRE_STORE_KEY") as caught:
        list(CacheArchive(plain, SPACE).manifests(strict=True))

    assert caught.value.reason == "encrypted"
    checked = [damage.reason for document in check_documents(plain) for damage in document.damages]
    assert set(checked) == {"encrypted"}


def test_a_store_with_plain_documents_is_not_written_to(tmp_path: Path) -> None:
    plain = DirectoryStore(tmp_path)
    publish(plain)
    encrypted = EncryptedStore(DirectoryStore(tmp_path), StoreKey(KEY))

    with pytest.raises(StoreError, match=r"stored without this key.*acre stores copy"):
        publish(encrypted, "another")

    assert encrypted.load_manifest(SPACE, DOCUMENT) is None
    assert CacheArchive(plain, SPACE).load_manifest(DOCUMENT) == MANIFEST


def test_a_manifest_that_somebody_planted_in_plain_is_not_believed(
    tmp_path: Path, place: EncryptedPlace, store: CacheStore
) -> None:
    plain = DirectoryStore(tmp_path / "plain")
    publish(plain)
    (planted,) = (tmp_path / "plain" / SPACE).glob("*/manifest")
    place.put(place.called("manifest"), planted.read_bytes())

    with pytest.raises(DamagedCacheError):
        CacheArchive(store, SPACE).load_manifest(DOCUMENT)
    assert list(CacheArchive(store, SPACE).manifests()) == []


@pytest.mark.parametrize("other", ["l1:1", "l2:0"])
def test_sound_values_that_were_swapped_are_refused(
    place: EncryptedPlace, store: CacheStore, other: str
) -> None:
    place.put(place.called("l1:0"), place.take(place.called(other)))

    with pytest.raises(DamagedCacheError, match=repr(DOCUMENT)) as caught:
        store.read(SPACE, DOCUMENT, VERSION, "l1:0")

    assert (caught.value.reason, caught.value.value) == ("checksum", "l1:0")


def test_a_sound_value_of_another_document_is_refused(
    place: EncryptedPlace, store: CacheStore
) -> None:
    (own,) = place.path.rglob("l2-0")
    publish(store, "other.md")
    (theirs,) = set(place.path.rglob("l2-0")) - {own}
    place.put(str(own), theirs.read_bytes())

    with pytest.raises(DamagedCacheError) as caught:
        store.read(SPACE, DOCUMENT, VERSION, "l2:0")

    assert caught.value.reason == "checksum"


def test_every_flipped_bit_of_the_head_and_the_tag_is_noticed(
    place: EncryptedPlace, store: CacheStore
) -> None:
    value = place.called("l1:0")
    whole = place.take(value)

    for at in [*range(20), *range(len(whole) - 16, len(whole))]:
        flipped = bytearray(whole)
        flipped[at] ^= 1
        place.put(value, bytes(flipped))
        with pytest.raises(DamagedCacheError):
            store.read(SPACE, DOCUMENT, VERSION, "l1:0")


def test_errors_name_documents_as_users_know_them(place: EncryptedPlace, store: CacheStore) -> None:
    other = place.open(lock_seconds=0)

    with pytest.raises(DamagedCacheError, match=repr(DOCUMENT)):
        store.read(SPACE, DOCUMENT, VERSION, "l2:99")
    with (
        store.writer(SPACE, DOCUMENT, VERSION),
        pytest.raises(StoreError, match=f"document {DOCUMENT!r} is being written"),
    ):
        other.delete(SPACE, DOCUMENT)


def test_a_store_whose_mark_was_evicted_gets_it_back(place: EncryptedPlace) -> None:
    (mark,) = [path for path in place.path.glob("*/*/manifest") if SPACE not in str(path)]
    mark.unlink()

    publish(place.open(), "another")

    assert mark.exists()
    assert len(list(place.open().manifests(SPACE))) == 2


def test_plain_documents_behind_encrypted_ones_are_found_too(place: EncryptedPlace) -> None:
    (mark,) = [path for path in place.path.glob("*/*/manifest") if SPACE not in str(path)]
    (digest,) = (folder.name for folder in (place.path / SPACE).iterdir() if folder.name != "locks")
    names = (f"{number}.md" for number in count())
    later = next(name for name in names if document_digest(name) > digest)
    with DirectoryStore(place.path).writer(SPACE, later, VERSION) as writer:
        writer.publish(manifest_of(document_id=later).encode())
    mark.unlink()

    with pytest.raises(StoreError, match="stored without this key"):
        publish(place.open(), "another")


@pytest.mark.parametrize("space", [SPACE, "07be" * 6])
def test_a_store_whose_mark_was_evicted_takes_nothing_in_plain(
    place: EncryptedPlace, space: str
) -> None:
    (mark,) = [path for path in place.path.glob("*/*/manifest") if SPACE not in str(path)]
    mark.unlink()

    with pytest.raises(StoreError, match="is encrypted; expected its key"):
        publish(DirectoryStore(place.path), "another", space)


def test_a_damaged_document_tells_nobody_that_a_store_is_in_plain(
    place: EncryptedPlace, store: CacheStore
) -> None:
    for number in range(3):
        publish(store, f"{number}.md")
    (mark,) = [path for path in place.path.glob("*/*/manifest") if SPACE not in str(path)]
    mark.unlink()
    *damaged, _ = sorted(place.path.glob(f"{SPACE}/*/manifest"))
    for path in damaged:
        path.write_bytes(b"garbage")

    with pytest.raises(StoreError, match="is encrypted; expected its key"):
        publish(DirectoryStore(place.path), "another")


def test_a_store_whose_mark_was_evicted_takes_no_plain_copies(
    place: EncryptedPlace, tmp_path: Path
) -> None:
    (mark,) = [path for path in place.path.glob("*/*/manifest") if SPACE not in str(path)]
    mark.unlink()
    plain = DirectoryStore(tmp_path / "plain")
    publish(plain, "another")

    with pytest.raises(StoreError, match="is encrypted; expected its key"):
        list(copy_documents(plain, DirectoryStore(place.path)))

    assert len(list(DirectoryStore(place.path).manifests(SPACE))) == 1


@pytest.mark.redis
def test_the_mark_of_a_key_neither_expires_nor_is_evicted(redis_server: Server) -> None:
    within = RedisStore(redis_server.url, ttl_seconds=3600, max_bytes=20_000)
    with Redis(port=redis_server.port) as client:
        key = f"acre:{{{KEY_SPACE}.{document_digest('key')}}}:manifest"
        publish(EncryptedStore(within, StoreKey(KEY)))
        assert client.pttl(key) == -1
        within.pin(KEY_SPACE, "key", pinned=False)
        assert client.pttl(key) > 0

        publish(EncryptedStore(within, StoreKey(KEY)), "another")  # as another process would

        assert client.pttl(key) == -1
        for number in range(20):
            publish(EncryptedStore(within, StoreKey(KEY)), f"{number}.md")
        uses = list(within.uses())
        assert len(uses) < 22
        assert [use.pinned for use in uses if use.space == KEY_SPACE] == [True]
    within.close()


@pytest.mark.redis
def test_pinning_reaches_the_document_as_it_is_called_within(redis_server: Server) -> None:
    within = RedisStore(redis_server.url)
    store = EncryptedStore(within, StoreKey(KEY))
    publish(store)

    assert store.pin(SPACE, DOCUMENT)
    assert not store.pin(SPACE, "nobody")
    assert all(use.pinned for use in within.uses())
    within.close()


def test_the_format_can_be_read_with_the_key_alone(place: EncryptedPlace) -> None:
    value = place.called("l2:1")
    space, digest, version, _ = Path(value).relative_to(place.path).parts
    secret = bytes.fromhex(KEY)

    data = place.take(value)
    kind, number, nonce = struct.unpack_from("<6sH12s", data)
    cipher = AESGCM(hmac.digest(secret, b"acre_rag values", "sha256"))
    bound = data[:20] + f"{space}/{digest}/{version}/l2:1".encode()
    plain = cipher.decrypt(nonce, data[20:], bound)

    assert (kind, number) == (b"ACREEN", 1)
    assert plain[:6] == b"ACREKV"
    naming = hmac.digest(secret, b"acre_rag names", "sha256")
    assert version == hmac.digest(naming, f"version\0{VERSION}".encode(), "sha256").hex()[:40]


def test_values_come_back_bit_for_bit(store: CacheStore) -> None:
    archive = CacheArchive(store, SPACE)

    read = {name: archive.read_block(MANIFEST, name) for name in MANIFEST.block_names}

    assert archive.load_manifest(DOCUMENT) == MANIFEST
    assert all(same_bits(read[name], block) for name, block in blocks_of(MANIFEST).items())


def test_a_key_shows_itself_to_nobody() -> None:
    key = StoreKey(KEY)
    store = EncryptedStore(DirectoryStore("nowhere"), key)

    assert KEY not in f"{key!r} {key!s} {store!r} {store!s} {store.url}"
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(key)


@pytest.mark.parametrize("digits", ["", "secret", "0f" * 31, "0f" * 33, "0g" * 32])
def test_what_is_no_key_is_refused_without_showing_it(digits: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(digits, encoding="ascii")

    with pytest.raises(ConfigError, match="64 hexadecimal digits") as caught:
        read_key(tmp_path / "key")

    assert not digits or digits not in str(caught.value)


def test_a_key_comes_from_a_file_or_from_the_environment(
    tmp_path: Path, place: EncryptedPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text(f"{KEY.upper()}\n", encoding="ascii")
    with_file = open_store(place.path, read_key(tmp_path / "key"))
    monkeypatch.setenv("ACRE_STORE_KEY", KEY)
    with_environment = open_store(place.path)

    for store in (with_file, with_environment):
        assert store.load_manifest(SPACE, DOCUMENT) == MANIFEST.encode()
    assert open_plain_store(place.path).load_manifest(SPACE, DOCUMENT) is None
    with pytest.raises(ConfigError, match="check the path"):
        read_key(tmp_path / "nothing")
    monkeypatch.setenv("ACRE_STORE_KEY", "secret")
    with pytest.raises(ConfigError, match="64 hexadecimal digits"):
        open_store(place.path)
