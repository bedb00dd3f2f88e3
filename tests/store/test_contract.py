"""What every store must do, whatever it keeps its bytes in."""

import threading
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from acre_rag.errors import DamagedCacheError, StoreError
from acre_rag.store import CacheStore, open_store
from acre_rag.store.address import document_digest
from tests.store.places import EncryptedPlace, Place

SPACE = "5bace0" * 4
OTHER_SPACE = "a" * 24
OLD, NEW = "0" * 16, "1" * 16
IDS = [
    "pump.md",
    "manuals/../pump.md",
    "/etc/passwd",
    "..",
    "Größe 中文 🧭",
    "caf\udce9.txt",
    "line\nbreak\0nul {tag} : *",
    "long" * 1000,
]


@pytest.fixture
def other(place: Place) -> Iterator[CacheStore]:
    """A second store at the same place, as another process would open it."""
    opened = place.open()
    yield opened
    opened.close()


def publish(store: CacheStore, document_id: str, version: str = OLD, space: str = SPACE) -> None:
    with store.writer(space, document_id, version) as writer:
        for number in range(3):
            writer.write(f"l2:{number}", [f"{version} {number} ".encode(), b"body"])
        writer.write("l1:0", [version.encode()])
        writer.publish(f"manifest of {version}".encode())


def is_missing(
    store: CacheStore, document_id: str, version: str = OLD, name: str = "l2:0", space: str = SPACE
) -> bool:
    try:
        store.read(space, document_id, version, name)
    except DamagedCacheError as error:
        return (error.reason, error.value) == ("missing", name)
    return False


def test_an_empty_store_holds_nothing(store: CacheStore) -> None:
    assert store.load_manifest(SPACE, "a") is None
    assert list(store.manifests(SPACE)) == []
    assert store.spaces() == []
    assert store.delete(SPACE, "a") is False
    assert is_missing(store, "a")


@pytest.mark.parametrize("document_id", IDS)
def test_any_id_names_a_document(store: CacheStore, other: CacheStore, document_id: str) -> None:
    publish(store, document_id)

    assert other.load_manifest(SPACE, document_id) == f"manifest of {OLD}".encode()
    assert bytes(other.read(SPACE, document_id, OLD, "l2:1")) == f"{OLD} 1 body".encode()
    assert list(other.manifests(SPACE)) == [
        (document_digest(document_id), f"manifest of {OLD}".encode())
    ]
    assert other.delete(SPACE, document_id) is True
    assert store.load_manifest(SPACE, document_id) is None


def test_values_come_back_whole_from_any_chunks(store: CacheStore) -> None:
    large = bytes(range(256)) * 8192
    values = {
        "l1:0": [b"a", memoryview(b"bcd")[1:], memoryview(bytearray(b"e"))],
        "l1:1": [b""],
        "l1:2": [],
        "l1:3": [large[:1000], memoryview(large)[1000:]],
    }

    with store.writer(SPACE, "a", OLD) as writer:
        for name, runs in values.items():
            writer.write(name, runs)
        read_back = {name: bytes(writer.read(name)) for name in values}
        writer.publish(b"m")

    assert read_back == {"l1:0": b"acde", "l1:1": b"", "l1:2": b"", "l1:3": large}
    assert {name: bytes(store.read(SPACE, "a", OLD, name)) for name in values} == read_back


def test_many_values_come_in_order_and_what_is_missing_is_said_in_its_place(
    store: CacheStore,
) -> None:
    publish(store, "a")
    names = ["l2:2", "l2:9", "l1:0", "l2:0", "l1:7", "l2:1"]

    with closing(store.read_each(SPACE, "a", OLD, names)) as values:
        found = list(values)

    assert [None if isinstance(v, DamagedCacheError) else bytes(v) for v in found] == [
        f"{OLD} 2 body".encode(),
        None,
        OLD.encode(),
        f"{OLD} 0 body".encode(),
        None,
        f"{OLD} 1 body".encode(),
    ]
    for place in (1, 4):
        with pytest.raises(DamagedCacheError) as caught:
            store.read(SPACE, "a", OLD, names[place])
        given = found[place]
        assert isinstance(given, DamagedCacheError)
        assert (str(given), given.reason, given.value) == (
            str(caught.value),
            "missing",
            names[place],
        )
    assert list(store.read_each(SPACE, "a", OLD, [])) == []


def test_who_takes_a_few_of_many_values_disturbs_nobody(store: CacheStore) -> None:
    publish(store, "a")
    names = ["l2:0", "l2:1", "l2:2"] * 20

    for taken in (0, 1, 4):
        with closing(store.read_each(SPACE, "a", OLD, names)) as values:
            found = [bytes(next(values)) for _ in range(taken)]
        assert found == [f"{OLD} {n % 3} body".encode() for n in range(taken)]

    assert bytes(store.read(SPACE, "a", OLD, "l2:2")) == f"{OLD} 2 body".encode()


def test_staged_values_are_seen_by_no_reader(store: CacheStore, other: CacheStore) -> None:
    with store.writer(SPACE, "a", OLD) as writer:
        writer.write("l1:0", [b"x"])

        assert other.load_manifest(SPACE, "a") is None
        assert list(other.manifests(SPACE)) == []
        assert other.spaces() == []


def test_an_interrupted_writer_leaves_its_values_to_the_next(
    store: CacheStore, other: CacheStore
) -> None:
    with suppress(KeyboardInterrupt), store.writer(SPACE, "a", OLD) as writer:
        writer.write("l1:0", [b"x"])
        writer.write("l2:10", [b"y"])
        raise KeyboardInterrupt

    with other.writer(SPACE, "a", NEW) as writer:
        assert writer.staged() == {}
    with other.writer(SPACE, "a", OLD) as writer:
        assert set(writer.staged()) == {"l1:0", "l2:10"}
        assert bytes(writer.read("l2:10")) == b"y"
        with pytest.raises(DamagedCacheError) as caught:
            writer.read("l2:11")
        writer.publish(b"m")

    assert caught.value.reason == "missing"
    assert bytes(store.read(SPACE, "a", OLD, "l1:0")) == b"x"


def test_a_new_version_replaces_the_old_one_in_one_step(
    store: CacheStore, other: CacheStore
) -> None:
    publish(store, "a", OLD)

    with store.writer(SPACE, "a", NEW) as writer:
        writer.write("l2:0", [b"new"])
        assert other.load_manifest(SPACE, "a") == f"manifest of {OLD}".encode()
        assert not is_missing(other, "a", OLD)
        writer.publish(b"manifest of new")
        assert other.load_manifest(SPACE, "a") == b"manifest of new"

    assert is_missing(other, "a", OLD)
    assert is_missing(other, "a", NEW, "l2:1")
    assert bytes(other.read(SPACE, "a", NEW, "l2:0")) == b"new"


def test_a_writer_sees_the_size_that_each_value_has_now(
    store: CacheStore, other: CacheStore, place: Place
) -> None:
    publish(store, "a", OLD)
    sizes = {"l1:0": 16, "l2:0": 23, "l2:1": 23, "l2:2": 23}
    with other.writer(SPACE, "a", OLD) as writer:
        assert writer.staged() == sizes
        writer.write("l2:2", [b""])
        assert writer.staged() == sizes | {"l2:2": 0}

    cut = place.called("l2:0")
    place.put(cut, place.take(cut)[:-5])

    with other.writer(SPACE, "a", OLD) as writer:
        assert writer.staged() == sizes | {"l2:0": 18, "l2:2": 0}


def test_a_published_value_is_put_back_without_publishing(
    store: CacheStore, other: CacheStore, place: Place
) -> None:
    publish(store, "a", OLD)
    place.remove(place.called("l2:0"))
    assert is_missing(other, "a")

    with store.writer(SPACE, "a", OLD) as writer:
        writer.write("l2:0", [b"back"])

    assert bytes(other.read(SPACE, "a", OLD, "l2:0")) == b"back"
    with other.writer(SPACE, "a", OLD) as writer:
        assert len(writer.staged()) == 4


def test_an_unpublished_version_leaves_the_old_one_alone(store: CacheStore) -> None:
    publish(store, "a", OLD)

    with store.writer(SPACE, "a", NEW) as writer:
        writer.write("l2:0", [b"new"])

    assert store.load_manifest(SPACE, "a") == f"manifest of {OLD}".encode()
    assert bytes(store.read(SPACE, "a", OLD, "l2:0")) == f"{OLD} 0 body".encode()


def test_publishing_leaves_the_staging_of_other_versions(store: CacheStore) -> None:
    with store.writer(SPACE, "a", NEW) as writer:
        writer.write("l2:0", [b"new"])

    publish(store, "a", OLD)

    with store.writer(SPACE, "a", NEW) as writer:
        assert set(writer.staged()) == {"l2:0"}


def test_a_published_version_is_repaired_in_place(store: CacheStore, other: CacheStore) -> None:
    publish(store, "a", OLD)

    with store.writer(SPACE, "a", OLD) as writer:
        assert set(writer.staged()) == {"l1:0", "l2:0", "l2:1", "l2:2"}
        writer.write("l2:1", [b"repaired"])
        assert other.load_manifest(SPACE, "a") == f"manifest of {OLD}".encode()
        writer.publish(b"other metadata")

    assert other.load_manifest(SPACE, "a") == b"other metadata"
    assert bytes(other.read(SPACE, "a", OLD, "l2:1")) == b"repaired"
    assert bytes(other.read(SPACE, "a", OLD, "l2:0")) == f"{OLD} 0 body".encode()


def test_a_repair_without_publishing_keeps_the_document(store: CacheStore) -> None:
    publish(store, "a", OLD)

    with store.writer(SPACE, "a", OLD) as writer:
        writer.write("l2:1", [b"repaired"])

    assert store.load_manifest(SPACE, "a") == f"manifest of {OLD}".encode()
    assert bytes(store.read(SPACE, "a", OLD, "l2:1")) == b"repaired"
    assert not is_missing(store, "a", OLD, "l2:0")


def test_documents_and_spaces_are_independent(store: CacheStore) -> None:
    publish(store, "a")
    publish(store, "b")
    publish(store, "a", NEW, space=OTHER_SPACE)

    assert store.spaces() == sorted([SPACE, OTHER_SPACE])
    assert dict(store.manifests(SPACE)).keys() == {document_digest("a"), document_digest("b")}
    assert store.delete(SPACE, "a") is True

    assert not is_missing(store, "b")
    assert not is_missing(store, "a", NEW, space=OTHER_SPACE)
    assert is_missing(store, "a")
    assert store.delete(OTHER_SPACE, "a") is True
    assert store.spaces() == [SPACE]


def test_deleting_removes_staged_values_too(store: CacheStore, place: Place) -> None:
    publish(store, "a", OLD)
    with store.writer(SPACE, "a", NEW) as writer:
        writer.write("l2:0", [b"new"])

    assert store.delete(SPACE, "a") is True

    assert place.values() == []
    assert store.delete(SPACE, "a") is False
    with store.writer(SPACE, "a", NEW) as writer:
        assert writer.staged() == {}


def test_deleting_what_was_only_staged_is_no_deletion_of_a_document(
    store: CacheStore, place: Place
) -> None:
    with store.writer(SPACE, "a", OLD) as writer:
        writer.write("l2:0", [b"x"])

    assert store.delete(SPACE, "a") is False
    assert place.values() == []


def test_only_what_is_published_can_be_pinned(store: CacheStore, other: CacheStore) -> None:
    with store.writer(SPACE, "a", OLD) as writer:
        writer.write("l1:0", [b"old"])
        assert not other.pin(SPACE, "a")
        writer.publish(b"manifest")

    assert other.pin(SPACE, "a")
    assert other.pin(SPACE, "a", pinned=False)
    assert store.load_manifest(SPACE, "a") == b"manifest"


def test_views_outlive_their_value_and_their_store(place: Place) -> None:
    store = place.open()
    publish(store, "a")
    first, second = (store.read(SPACE, "a", OLD, f"l2:{number}") for number in range(2))
    with store.writer(SPACE, "a", OLD) as writer:
        writer.write("l2:0", [b"replaced"])
    store.delete(SPACE, "a")
    store.close()

    assert bytes(first) == f"{OLD} 0 body".encode()
    assert bytes(second) == f"{OLD} 1 body".encode()


def test_one_writer_at_a_time(store: CacheStore, other: CacheStore) -> None:
    publish(store, "a")
    with store.writer(SPACE, "a", NEW) as writer:
        writer.write("l2:0", [b"new"])
        for second in (store, other):
            with (
                pytest.raises(StoreError, match="'a' is being written"),
                second.writer(SPACE, "a", OLD),
            ):
                pytest.fail("a second writer got in")
            with pytest.raises(StoreError, match="'a' is being written"):
                second.delete(SPACE, "a")
        with other.writer(SPACE, "b", OLD), other.writer(OTHER_SPACE, "a", OLD):
            pass
        writer.publish(b"new")

    assert store.load_manifest(SPACE, "a") == b"new"


def test_a_writer_waits_for_the_one_before(place: Place) -> None:
    patient = place.open(lock_seconds=30)
    entered, done = threading.Event(), threading.Event()

    def write_second() -> None:
        entered.set()
        publish(patient, "a", NEW)
        done.set()

    with patient.writer(SPACE, "a", OLD) as writer:
        thread = threading.Thread(target=write_second)
        thread.start()
        entered.wait()
        writer.write("l2:0", [b"x"])
        assert not done.is_set()
        writer.publish(b"first")
    thread.join()

    assert patient.load_manifest(SPACE, "a") == f"manifest of {NEW}".encode()
    patient.close()


def test_a_writer_serves_any_thread(store: CacheStore) -> None:
    with store.writer(SPACE, "a", OLD) as writer:
        threads = [
            threading.Thread(target=writer.write, args=(f"l2:{number}", [b"x" * number]))
            for number in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        writer.publish(b"m")

    assert [store.read(SPACE, "a", OLD, f"l2:{n}").nbytes for n in range(8)] == list(range(8))


def test_a_writer_is_of_no_use_after_its_end(store: CacheStore) -> None:
    with store.writer(SPACE, "a", OLD) as writer:
        writer.write("l2:0", [b"x"])

    with pytest.raises(StoreError, match="has ended"):
        writer.write("l2:0", [b"y"])
    with pytest.raises(StoreError, match="has ended"):
        writer.publish(b"m")

    assert store.load_manifest(SPACE, "a") is None


def test_a_write_that_fails_leaves_the_value_as_it_was(store: CacheStore) -> None:
    publish(store, "a")
    with store.writer(SPACE, "a", OLD) as writer:
        with pytest.raises(TypeError):
            writer.write("l2:0", [b"half", "not bytes"])
        assert set(writer.staged()) == {"l1:0", "l2:0", "l2:1", "l2:2"}

    assert bytes(store.read(SPACE, "a", OLD, "l2:0")) == f"{OLD} 0 body".encode()


@pytest.mark.parametrize("error", [OSError(5, "mine"), ValueError("mine"), TimeoutError("mine")])
def test_errors_of_the_users_own_pass_through_a_writer(store: CacheStore, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, store.writer(SPACE, "a", OLD):
        raise error

    assert caught.value is error


@pytest.mark.parametrize(
    ("space", "document_id", "version", "name"),
    [
        ("../..", "a", OLD, "l2:0"),
        ("", "a", OLD, "l2:0"),
        (SPACE.upper(), "a", OLD, "l2:0"),
        (SPACE, "", OLD, "l2:0"),
        (SPACE, "a", "../" * 8, "l2:0"),
        (SPACE, "a", OLD, "../l2:0"),
        (SPACE, "a", OLD, "l2:*"),
        (SPACE, "a", OLD, "manifest"),
    ],
)
def test_malformed_addresses_are_refused(
    store: CacheStore, place: Place, space: str, document_id: str, version: str, name: str
) -> None:
    with pytest.raises(StoreError, match="expected") as caught:
        store.read(space, document_id, version, name)
    with (
        pytest.raises(StoreError, match="expected"),
        store.writer(space, document_id, version) as writer,
    ):
        writer.write(name, [b"x"])

    assert not isinstance(caught.value, DamagedCacheError)
    assert place.values() == []


def test_the_url_opens_the_same_place(
    store: CacheStore, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store, "a")
    if isinstance(place, EncryptedPlace):
        monkeypatch.setenv("ACRE_STORE_KEY", place.digits)

    again = open_store(store.url)

    assert again.load_manifest(SPACE, "a") is not None
    assert again.url == store.url
    again.close()
