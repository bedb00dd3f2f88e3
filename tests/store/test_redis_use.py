"""Documents in Redis that expire, that are pinned, and that make room for one another."""

import logging
import time
from collections.abc import Callable, Iterator

import pytest
from redis import Redis

from acre_rag.errors import DamagedCacheError, StoreError
from acre_rag.store import CacheStore, open_store, redis_budget, redis_use
from acre_rag.store.address import document_digest
from acre_rag.store.redis import RedisStore
from tests.store.servers import Server

pytestmark = pytest.mark.redis

SPACE = "5bace0" * 4
OLD, NEW = "0" * 16, "1" * 16
GRACE = 600
MakeStore = Callable[..., RedisStore]


@pytest.fixture
def client(redis_server: Server) -> Iterator[Redis]:
    """A client that sees what is behind the store."""
    with Redis(port=redis_server.port) as opened:
        yield opened


@pytest.fixture
def make(redis_server: Server) -> Iterator[MakeStore]:
    """Make stores over one server, with options as arguments or, by `query`, in the URL."""
    made = []

    def make_store(query: str = "", **options: object) -> RedisStore:
        url = redis_server.url + query
        made.append(RedisStore(url, lock_seconds=0.2, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make_store
    for store in made:
        store.close()


@pytest.fixture
def _every_read_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_use, "NOTE_SECONDS", 0.0)


@pytest.fixture
def _a_read_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_budget, "IN_USE_SECONDS", 0)


def publish(
    store: CacheStore, document_id: str, version: str = OLD, *, values: int = 2, size: int = 1000
) -> None:
    with store.writer(SPACE, document_id, version) as writer:
        for number in range(values):
            writer.write(f"l2:{number}", [b"x" * size])
        writer.publish(f"manifest of {version}".encode())


def key(part: str, document_id: str = "a") -> str:
    return f"acre:{{{SPACE}.{document_digest(document_id)}}}:{part}"


def lives(client: Redis, document_id: str = "a") -> dict[str, int]:
    """Seconds that each key of a document has left; -1 for good."""
    start = key("", document_id)
    return {name.decode()[len(start) :]: client.ttl(name) for name in client.keys(f"{start}*")}


def held(store: CacheStore) -> set[str]:
    """Which of the documents a, b, c... are there, each of them whole or not at all?"""
    there = set()
    for document_id in "abcdefgh":
        if store.load_manifest(SPACE, document_id) is not None:
            assert store.read(SPACE, document_id, OLD, "l2:0").nbytes == 1000
            assert store.read(SPACE, document_id, OLD, "l2:1").nbytes == 1000
            there.add(document_id)
    return there


# Expiry


@pytest.mark.parametrize("query", [True, False])
def test_a_document_outlives_its_time_nowhere(
    make: MakeStore, client: Redis, *, query: bool
) -> None:
    store = make("?ttl_seconds=1000") if query else make(ttl_seconds=1000)

    publish(store, "a")

    assert lives(client) == {
        "manifest": 1000,
        **dict.fromkeys(("names", "state", f"{OLD}:l2:0", f"{OLD}:l2:1"), 1000 + GRACE),
    }


def test_an_expired_document_is_gone_as_a_whole(make: MakeStore, client: Redis) -> None:
    store = make(ttl_seconds=1000)
    publish(store, "a")
    publish(store, "b")

    client.pexpire(key("manifest"), 1)
    while client.exists(key("manifest")):
        pass

    assert store.load_manifest(SPACE, "a") is None
    assert [digest for digest, _ in store.manifests(SPACE)] == [document_digest("b")]
    with store.writer(SPACE, "a", OLD) as writer:
        assert set(writer.staged()) == {"l2:0", "l2:1"}


@pytest.mark.usefixtures("_every_read_counts")
@pytest.mark.parametrize(
    "read",
    [
        lambda store: store.load_manifest(SPACE, "a"),
        lambda store: store.read(SPACE, "a", OLD, "l2:1"),
        lambda store: list(store.read_each(SPACE, "a", OLD, ["l2:1"])),
        lambda store: next(store.read_each(SPACE, "a", OLD, ["l2:1", "l2:0"])),
    ],
    ids=["manifest", "value", "values", "first of values"],
)
def test_reading_lets_the_whole_document_live_anew(
    make: MakeStore, client: Redis, read: Callable[[CacheStore], object]
) -> None:
    publish(make(ttl_seconds=1000), "a")
    whole = lives(client)
    for name, left in whole.items():
        client.expire(key(name), left - 200)

    read(make())  # a reader that knows nothing of lives

    assert lives(client) == whole


@pytest.mark.usefixtures("_every_read_counts")
def test_a_life_that_has_hardly_begun_is_not_renewed(make: MakeStore, client: Redis) -> None:
    store = make(ttl_seconds=1000)
    publish(store, "a")
    client.expire(key("manifest"), 950)

    store.load_manifest(SPACE, "a")

    assert client.ttl(key("manifest")) == 950


def test_a_reader_tells_of_a_document_once_in_a_while(make: MakeStore, client: Redis) -> None:
    store = make()
    publish(store, "a")
    client.config_resetstat()

    for _ in range(5):
        store.load_manifest(SPACE, "a")
        store.read(SPACE, "a", OLD, "l2:0")

    assert client.info("commandstats")["cmdstat_eval"]["calls"] == 1


def test_mending_a_document_keeps_its_life(make: MakeStore, client: Redis) -> None:
    publish(make(ttl_seconds=1000), "a")

    with make().writer(SPACE, "a", OLD) as writer:
        writer.write("l2:1", [b"mended"])
        assert client.ttl(key(f"{OLD}:l2:1")) > 1000
        writer.publish(b"same text")

    assert client.ttl(key("manifest")) == 1000


def test_another_version_lives_as_its_own_writer_says(make: MakeStore, client: Redis) -> None:
    publish(make(ttl_seconds=1000), "a")

    publish(make(), "a", NEW)

    assert set(lives(client).values()) == {-1}


def test_staging_beside_a_document_that_expires_stays_known(make: MakeStore, client: Redis) -> None:
    store = make(ttl_seconds=100)
    publish(store, "a")
    with store.writer(SPACE, "a", NEW) as writer:
        writer.write("l2:0", [b"new"])
    client.delete(key("manifest"))

    assert min(client.ttl(key(part)) for part in ("names", "state", f"{NEW}:l2:0")) > 80_000
    with store.writer(SPACE, "a", NEW) as writer:
        assert set(writer.staged()) == {"l2:0"}


def test_values_that_expired_are_forgotten_when_the_document_is_next_published(
    make: MakeStore, client: Redis
) -> None:
    store = make()
    with store.writer(SPACE, "a", NEW) as writer:
        writer.write("l2:0", [b"x" * 50_000])
    client.delete(key(f"{NEW}:l2:0"))

    publish(store, "a")

    assert set(client.hkeys(key("names"))) == {f"{OLD}:l2:{n}".encode() for n in range(2)}
    assert [use.bytes for use in store.uses()] == [2000 + client.strlen(key("manifest"))]


# Pinning


@pytest.mark.usefixtures("_every_read_counts")
def test_a_pinned_document_never_expires_and_an_unpinned_one_does(
    make: MakeStore, client: Redis
) -> None:
    store = make(ttl_seconds=1000)
    publish(store, "a")

    assert store.pin(SPACE, "a") is True
    store.load_manifest(SPACE, "a")
    assert set(lives(client).values()) == {-1}
    publish(store, "a", NEW)
    assert set(lives(client).values()) == {-1}

    assert store.pin(SPACE, "a", pinned=False) is True
    assert lives(client)["manifest"] == 1000


def test_pinning_leaves_what_is_staged_to_expire(make: MakeStore, client: Redis) -> None:
    store = make()
    publish(store, "a")
    with store.writer(SPACE, "a", NEW) as writer:
        writer.write("l2:0", [b"new"])

    store.pin(SPACE, "a")

    assert client.ttl(key(f"{NEW}:l2:0")) > 0


def test_what_is_not_there_cannot_be_pinned(make: MakeStore) -> None:
    store = make()
    publish(store, "a")
    store.pin(SPACE, "a")
    store.delete(SPACE, "a")

    assert store.pin(SPACE, "a") is False
    assert list(store.uses()) == []
    publish(store, "a")
    assert [use.pinned for use in store.uses()] == [False]


# A budget of bytes


@pytest.mark.usefixtures("_a_read_ends_at_once", "_every_read_counts")
@pytest.mark.parametrize("query", [True, False])
def test_documents_used_longest_ago_make_room_as_a_whole(
    make: MakeStore, client: Redis, *, query: bool
) -> None:
    store = make("?max_bytes=7kb") if query else make(max_bytes=7 * 1024)
    for document_id in "abc":
        publish(store, document_id)
        time.sleep(0.002)
    store.load_manifest(SPACE, "a")

    publish(store, "d")

    assert held(store) == {"a", "c", "d"}
    assert lives(client, "b") == {}
    assert sum(use.bytes for use in store.uses()) <= 7 * 1024


@pytest.mark.usefixtures("_a_read_ends_at_once")
def test_pinned_documents_and_those_being_written_are_not_evicted(make: MakeStore) -> None:
    store, other = make(max_bytes=7000), make(max_bytes=7000)
    for document_id in "abc":
        publish(store, document_id)
    store.pin(SPACE, "a")

    with other.writer(SPACE, "b", NEW):
        publish(store, "d")

    assert held(store) == {"a", "b", "d"}


def test_a_document_that_is_being_read_is_not_evicted(
    make: MakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    store, reader = make(max_bytes=5000), make()
    publish(store, "a")
    publish(store, "b")
    reader.load_manifest(SPACE, "a")

    publish(store, "c")
    assert held(store) == {"a", "c"}

    with caplog.at_level(logging.WARNING, "acre_rag"):
        publish(store, "d")  # both others were read just now
    assert held(store) == {"a", "c", "d"}
    assert "in use" in caplog.text


def test_a_document_that_can_never_fit_costs_no_other_one(make: MakeStore) -> None:
    store = make(max_bytes=5000)
    publish(store, "a")
    publish(store, "b")
    store.pin(SPACE, "b")

    with pytest.raises(StoreError, match="unpin documents"):
        publish(store, "c", values=4)

    assert held(store) == {"a", "b"}


@pytest.mark.usefixtures("_a_read_ends_at_once")
def test_staging_that_nobody_publishes_is_counted_and_evicted(make: MakeStore) -> None:
    store = make(max_bytes=5000)
    with store.writer(SPACE, "a", OLD) as writer:
        writer.write("l2:0", [b"x" * 4000])

    publish(store, "b")

    with store.writer(SPACE, "a", OLD) as writer:
        assert not writer.staged()


@pytest.mark.usefixtures("_a_read_ends_at_once")
def test_namespaces_have_budgets_of_their_own(make: MakeStore, redis_server: Server) -> None:
    ours = make("?namespace=ours", max_bytes=3000)
    theirs = make(namespace="theirs")
    publish(theirs, "a", size=100_000)

    for document_id in "ab":
        publish(ours, document_id)

    assert held(ours) == {"b"}
    assert theirs.load_manifest(SPACE, "a") is not None
    assert ours.url == f"{redis_server.url}?namespace=ours"
    again = open_store(ours.url)
    assert held(again) == {"b"}
    again.close()


@pytest.mark.usefixtures("_a_read_ends_at_once")
def test_evicted_documents_are_missing_to_whoever_still_reads_them(make: MakeStore) -> None:
    store = make(max_bytes=3000)
    publish(store, "a")
    publish(store, "b")

    with pytest.raises(DamagedCacheError) as caught:
        store.read(SPACE, "a", OLD, "l2:0")

    assert caught.value.reason == "missing"


@pytest.mark.usefixtures("_a_read_ends_at_once", "_every_read_counts")
@pytest.mark.parametrize(
    "act",
    [
        lambda store: store.pin(SPACE, "a"),
        lambda store: store.read(SPACE, "a", OLD, "l2:0"),
        lambda store: publish(store, "a"),
    ],
    ids=["pinned", "read", "written"],
)
def test_a_document_used_since_it_was_looked_at_is_not_evicted(
    make: MakeStore, act: Callable[[RedisStore], object]
) -> None:
    store = make()
    publish(store, "a")
    (use,) = store.uses()
    time.sleep(0.002)

    act(store)

    assert store._budget._evict(use) is False
    assert held(store) == {"a"}


# Listing


def test_uses_tell_what_a_document_takes_and_when_it_was_used(
    make: MakeStore, client: Redis
) -> None:
    store = make()
    before = time.time()
    publish(store, "a", values=3)
    publish(store, "a", NEW, values=2)
    with store.writer(SPACE, "b", OLD) as writer:
        writer.write("l2:0", [b"x" * 10])
        writer.write("l2:0", [b"x" * 30])
    store.pin(SPACE, "a")

    uses = {use.digest: use for use in store.uses()}

    a, b = uses[document_digest("a")], uses[document_digest("b")]
    assert (a.space, a.bytes, a.pinned, a.published) == (
        SPACE,
        2000 + client.strlen(key("manifest")),
        True,
        True,
    )
    assert (b.bytes, b.pinned, b.published) == (30, False, False)
    assert before - 5 < a.used / 1000 < time.time() + 5


def test_no_listing_ever_holds_the_server_up(make: MakeStore, client: Redis) -> None:
    store = make(max_bytes=10**6)
    for document_id in "abc":
        publish(store, document_id)
    client.delete("acre:documents", key("names"))
    client.config_resetstat()

    assert len(list(store.uses())) == len(list(store.manifests(SPACE))) == 3
    assert store.spaces() == [SPACE]
    publish(store, "d")
    store.delete(SPACE, "a")

    used = {name.removeprefix("cmdstat_") for name in client.info("commandstats")}
    assert {"scan", "sscan", "hscan"} <= used
    assert not used & {"keys", "smembers", "hgetall", "hkeys", "sort"}


def test_a_document_whose_state_was_lost_is_listed_and_can_be_read(
    make: MakeStore, client: Redis
) -> None:
    store = make()
    publish(store, "a")
    client.delete(key("state"), key("names"), "acre:documents")

    assert [use.published for use in store.uses()] == [True]
    assert held(store) == {"a"}
    assert store.pin(SPACE, "a") is True
    assert store.delete(SPACE, "a") is True
    assert lives(client) == {}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"query": "?ttl_seconds=soon"}, "ttl_seconds is 'soon'"),
        ({"query": "?max_bytes=much"}, "max_bytes is 'much'"),
        ({"query": "?namespace=a:b"}, "namespace"),
        ({"ttl_seconds": 0}, "ttl_seconds is 0"),
        ({"ttl_seconds": float("nan")}, "ttl_seconds is nan"),
        ({"max_bytes": 0}, "max_bytes is 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    make: MakeStore, options: dict[str, object], told: str
) -> None:
    with pytest.raises(StoreError, match=told):
        make(**options)  # type: ignore[arg-type]
