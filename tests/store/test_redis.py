"""What Redis alone can do to a store: time out, fill up, evict, refuse, expire, die."""

import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
import redis.asyncio
from redis import Redis
from redis.crc import key_slot

from acre_rag.errors import DamagedCacheError, StoreError
from acre_rag.store import CacheStore, open_store, redis_writer
from acre_rag.store.address import document_digest
from acre_rag.store.redis import RedisStore
from tests.store.proxy import Proxy, silent_server
from tests.store.servers import Server, free_port, running

pytestmark = pytest.mark.redis

SPACE = "5bace0" * 4
OLD, NEW = "0" * 16, "1" * 16
DAY = 24 * 3600


@pytest.fixture
def client(redis_server: Server) -> Iterator[Redis]:
    """A client that sees what is behind the store."""
    with Redis(port=redis_server.port) as opened:
        yield opened


@pytest.fixture
def store(redis_server: Server) -> Iterator[RedisStore]:
    opened = RedisStore(redis_server.url, lock_seconds=0.2)
    yield opened
    opened.close()


def publish(store: CacheStore, document_id: str = "a", version: str = OLD) -> None:
    with store.writer(SPACE, document_id, version) as writer:
        writer.write("l2:0", [b"body of ", version.encode()])
        writer.publish(f"manifest of {version}".encode())


def key(part: str, document_id: str = "a") -> str:
    return f"acre:{{{SPACE}.{document_digest(document_id)}}}:{part}"


def everything(client: Redis) -> dict[bytes, object]:
    return {name: client.dump(name) for name in client.keys("*")}


# Reaching the server


def test_a_dead_server_is_reported_at_once() -> None:
    store = RedisStore(f"redis://127.0.0.1:{free_port()}/0")
    started = time.monotonic()

    for use in USES:
        with pytest.raises(StoreError, match="start it, or correct the URL") as caught:
            use(store)
        assert not isinstance(caught.value, DamagedCacheError)

    assert time.monotonic() - started < 60
    store.close()


USES: list[Callable[[CacheStore], object]] = [
    lambda store: store.load_manifest(SPACE, "a"),
    lambda store: store.read(SPACE, "a", OLD, "l2:0"),
    lambda store: list(store.manifests(SPACE)),
    lambda store: store.spaces(),
    lambda store: store.delete(SPACE, "a"),
    publish,
]


@pytest.mark.parametrize("use", USES)
def test_a_silent_server_is_given_up_after_its_time(use: Callable[[CacheStore], object]) -> None:
    with silent_server() as port:
        store = RedisStore(f"redis://127.0.0.1:{port}/0?socket_timeout=0.2")
        started = time.monotonic()

        with pytest.raises(StoreError, match="cannot"):
            use(store)

        assert time.monotonic() - started < 4
        store.close()


@pytest.mark.slow
def test_a_silent_server_is_given_up_within_fifteen_seconds() -> None:
    with silent_server() as port:
        store = RedisStore(f"redis://127.0.0.1:{port}/0")
        started = time.monotonic()

        with pytest.raises(StoreError, match="answer"):
            store.load_manifest(SPACE, "a")

        assert 4 < time.monotonic() - started < 15
        store.close()


@pytest.mark.parametrize(("cuts", "connections"), [([], 2), ([5000], 3), ([5000, 5000], 4)])
def test_an_answer_that_breaks_off_is_asked_for_again(
    store: RedisStore, redis_server: Server, cuts: list[int], connections: int
) -> None:
    with store.writer(SPACE, "a", OLD) as writer:
        writer.write("l2:0", [b"x" * 1_000_000])
        writer.publish(b"m")
    proxy = Proxy(redis_server.port)
    proxy.cuts = cuts
    behind = RedisStore(proxy.url)

    value = behind.read(SPACE, "a", OLD, "l2:0")

    assert bytes(value) == b"x" * 1_000_000
    assert proxy.connections == connections
    behind.close()
    proxy.close()


def test_a_third_broken_answer_is_an_error(store: RedisStore, redis_server: Server) -> None:
    with store.writer(SPACE, "a", OLD) as writer:
        writer.write("l2:0", [b"x" * 1_000_000])
        writer.publish(b"m")
    proxy = Proxy(redis_server.port)
    proxy.cuts = [5000] * 9
    behind = RedisStore(proxy.url)

    with pytest.raises(StoreError, match="cannot read"):
        behind.read(SPACE, "a", OLD, "l2:0")

    assert proxy.connections == 3
    behind.close()
    proxy.close()


def test_a_server_that_was_started_again_is_reached_again(tmp_path: Path) -> None:
    with running(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server:
        store = RedisStore(server.url, lock_seconds=0.2)
        publish(store, "a", OLD)
        with store.writer(SPACE, "a", NEW) as writer:
            writer.write("l2:0", [b"new"])
            server.kill()
            with pytest.raises(StoreError, match="cannot write"):
                writer.publish(b"manifest of new")
        with pytest.raises(StoreError, match="cannot read"):
            store.load_manifest(SPACE, "a")

        server.start()

        assert store.load_manifest(SPACE, "a") == f"manifest of {OLD}".encode()
        assert bytes(store.read(SPACE, "a", OLD, "l2:0")) == f"body of {OLD}".encode()
        store.close()


# Naming the server


@pytest.mark.parametrize(
    "make", [lambda server: f"unix://{server.socket}", lambda server: server.url]
)
def test_every_kind_of_url_works(redis_server: Server, make: Callable[[Server], str]) -> None:
    store = open_store(make(redis_server))
    publish(store)

    again = open_store(store.url)

    assert isinstance(store, RedisStore)
    assert again.load_manifest(SPACE, "a") == f"manifest of {OLD}".encode()
    for opened in (store, again):
        opened.close()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:s3cret@example.com:1234/5", "redis://example.com:1234/5"),
        ("rediss://me:s3cret@example.com/0?ssl_cert_reqs=none", "rediss://example.com:6379/0"),
        ("redis://example.com?password=s3cret&db=2", "redis://example.com:6379/2"),
        ("unix://me:s3cret@/run/redis.sock?db=3", "unix:///run/redis.sock?db=3"),
        ("redis://:s3cret@[::1]:7000/0", "redis://[::1]:7000/0"),
    ],
)
def test_a_stores_url_tells_no_password(url: str, shown: str) -> None:
    store = RedisStore(url)

    assert store.url == shown
    assert "s3cret" not in repr(store)
    store.close()


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3cret/with/slash@host:6379",
        "redis://me:s3cret@host:port/0",
        "redis://:s3cret@host?no_such_option=s3cret",
        "redis://:s3cret@host?socket_timeout=s3cret",
        "redis://:s3cret@[host",
    ],
)
def test_a_malformed_url_is_refused_without_telling_its_password(url: str) -> None:
    with pytest.raises(StoreError, match="malformed Redis URL") as caught:
        RedisStore(url)

    told = "".join(traceback.format_exception(caught.value, chain=True))
    assert "s3cret" not in told.replace(f"RedisStore({url!r})", "")


def test_a_wrong_password_is_reported_without_telling_it(tmp_path: Path) -> None:
    with running(tmp_path, "--requirepass", "letmein") as server:
        port = server.port
        right = RedisStore(f"redis://:letmein@127.0.0.1:{port}/0")
        publish(right)
        for url in (f"redis://:s3cret@127.0.0.1:{port}/0", f"redis://127.0.0.1:{port}/0"):
            store = RedisStore(url)

            with pytest.raises(StoreError, match="user and password") as caught:
                store.load_manifest(SPACE, "a")

            assert "s3cret" not in "".join(traceback.format_exception(caught.value))
            store.close()
        right.close()


def test_a_given_client_is_used_as_it_is_and_left_open(redis_server: Server) -> None:
    with Redis(port=redis_server.port, client_name="mine") as client:
        store = RedisStore(client)
        publish(store)
        store.close()

        assert store.url == f"redis://localhost:{redis_server.port}/0"
        assert store.load_manifest(SPACE, "a") == f"manifest of {OLD}".encode()


def test_a_given_client_keeps_its_own_retries(redis_server: Server) -> None:
    proxy = Proxy(redis_server.port)
    proxy.cuts = [1] * 9
    retry = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
    with Redis.from_url(proxy.url, retry=retry) as client:
        with pytest.raises(StoreError):
            RedisStore(client).load_manifest(SPACE, "a")

        assert proxy.connections == 1
    proxy.close()


def test_clients_that_would_change_bytes_are_refused(redis_server: Server) -> None:
    decoding = Redis(port=redis_server.port, decode_responses=True)
    with pytest.raises(StoreError, match="leave out decode_responses"):
        RedisStore(decoding)
    with pytest.raises(StoreError, match="decode_responses"):
        RedisStore(f"{redis_server.url}?decode_responses=True")
    with pytest.raises(StoreError, match=r"expected redis\.Redis"):
        RedisStore(redis.asyncio.Redis(port=redis_server.port))


def test_closing_a_store_closes_its_connections(redis_server: Server, client: Redis) -> None:
    store = RedisStore(f"{redis_server.url}?client_name=ours")
    publish(store)
    assert any(entry["name"] == "ours" for entry in client.client_list())

    store.close()

    deadline = time.monotonic() + 60
    while any(entry["name"] == "ours" for entry in client.client_list()):
        assert time.monotonic() < deadline


def test_namespaces_know_nothing_of_each_other(redis_server: Server) -> None:
    ours, theirs = (RedisStore(redis_server.url, namespace=name) for name in ("a.b", "a"))
    publish(ours)

    assert theirs.load_manifest(SPACE, "a") is None
    assert theirs.spaces() == []
    assert theirs.delete(SPACE, "a") is False
    assert ours.spaces() == [SPACE]
    for opened in (ours, theirs):
        opened.close()


@pytest.mark.parametrize("namespace", ["", "a:b", "{a}", "a*", "a b", "x" * 65])
def test_a_namespace_that_would_break_keys_is_refused(namespace: str) -> None:
    with pytest.raises(StoreError, match="namespace"):
        RedisStore("redis://127.0.0.1", namespace=namespace)


def test_a_document_lies_in_one_hash_slot(store: RedisStore, client: Redis) -> None:
    with store.writer(SPACE, "a", OLD) as writer:
        writer.write("l2:0", [b"x"])
        writer.publish(b"m")
        keys = set(client.keys("acre:{*"))

    assert {name.rpartition(b"}:")[2].decode() for name in keys} == {
        "manifest",
        "names",
        "state",
        "lock",
        f"{OLD}:l2:0",
    }
    assert len({key_slot(name) for name in keys}) == 1


# A server that refuses


def test_a_full_server_loses_nothing_and_lets_documents_be_deleted(tmp_path: Path) -> None:
    with running(tmp_path) as server, Redis(port=server.port) as client:
        store = RedisStore(server.url, lock_seconds=0.2)
        publish(store, "a", OLD)
        with store.writer(SPACE, "a", NEW) as writer:
            writer.write("l2:0", [b"new"])
            client.config_set("maxmemory", 1)
            for write in (lambda: writer.write("l2:1", [b"x"]), lambda: writer.publish(b"new")):
                with pytest.raises(StoreError, match="raise maxmemory, or delete documents"):
                    write()
        with pytest.raises(StoreError, match="raise maxmemory, or delete documents"):
            publish(store, "b", OLD)

        assert store.load_manifest(SPACE, "a") == f"manifest of {OLD}".encode()
        assert bytes(store.read(SPACE, "a", OLD, "l2:0")) == f"body of {OLD}".encode()
        assert store.spaces() == [SPACE]
        assert store.delete(SPACE, "a") is True
        assert client.keys("acre:{*") == []
        store.close()


def test_a_replica_is_read_but_not_written(
    store: RedisStore, tmp_path: Path, redis_server: Server
) -> None:
    publish(store)
    with running(tmp_path, "--replicaof", "127.0.0.1", str(redis_server.port)) as replica:
        behind = RedisStore(replica.url, lock_seconds=0.2)
        deadline = time.monotonic() + 120
        while behind.load_manifest(SPACE, "a") is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)

        assert bytes(behind.read(SPACE, "a", OLD, "l2:0")) == f"body of {OLD}".encode()
        assert behind.spaces() == [SPACE]
        with pytest.raises(StoreError, match="name the primary"):
            publish(behind, "b")
        with pytest.raises(StoreError, match="name the primary"):
            behind.delete(SPACE, "a")
        behind.close()


def test_a_user_without_permission_is_told_so(redis_server: Server, client: Redis) -> None:
    client.execute_command("ACL", "SETUSER", "guest", "on", ">guest", "~acre:*", "+get", "+ping")
    store = RedisStore(f"redis://guest:guest@127.0.0.1:{redis_server.port}/0")

    with pytest.raises(StoreError, match="change the ACL"):
        publish(store)

    store.close()
    client.execute_command("ACL", "DELUSER", "guest")


def test_values_beyond_the_limit_of_redis_are_refused(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_writer, "MAX_VALUE_BYTES", 100)

    with store.writer(SPACE, "a", OLD) as writer:
        with pytest.raises(StoreError, match="keep it in a directory"):
            writer.write("l2:0", [b"x" * 60, b"y" * 60])
        with pytest.raises(StoreError, match="keep it in a directory"):
            writer.publish(b"x" * 200)


@pytest.mark.parametrize("part", ["manifest", f"{OLD}:l2:0"])
def test_a_key_of_another_type_has_no_bytes(store: RedisStore, client: Redis, part: str) -> None:
    publish(store)
    client.delete(key(part))
    client.rpush(key(part), "x")

    assert store.load_manifest(SPACE, "a") in (b"", f"manifest of {OLD}".encode())
    assert bytes(store.read(SPACE, "a", OLD, "l2:0")) in (b"", f"body of {OLD}".encode())


# Locks and leases


def test_the_lock_of_a_dead_writer_expires(redis_server: Server, client: Redis) -> None:
    store = RedisStore(redis_server.url, lock_seconds=60)
    started = time.monotonic()
    client.set(key("lock"), "dead", px=300)

    publish(store)

    assert time.monotonic() - started > 0.2
    store.close()


def test_a_live_writer_keeps_its_lock_beyond_its_lease(redis_server: Server, client: Redis) -> None:
    store = RedisStore(redis_server.url, lock_seconds=0.1, lease_seconds=0.8)

    with store.writer(SPACE, "a", OLD) as writer:
        deadline = time.monotonic() + 1.7
        while time.monotonic() < deadline:
            assert client.pttl(key("lock")) > 0
            time.sleep(0.02)
        writer.write("l2:0", [b"x"])
        writer.publish(b"m")

    assert client.exists(key("lock")) == 0
    store.close()


@pytest.mark.parametrize("successor", [None, "somebody else"])
def test_a_writer_that_lost_its_lock_changes_nothing(
    store: RedisStore, client: Redis, successor: str | None
) -> None:
    publish(store, "a", OLD)
    with store.writer(SPACE, "a", NEW) as writer:
        writer.write("l2:0", [b"new"])
        client.delete(key("lock"))
        if successor:
            client.set(key("lock"), successor)
        before = everything(client)

        with pytest.raises(StoreError, match="lock of document 'a' was lost"):
            writer.write("l2:0", [b"newer"])
        with pytest.raises(StoreError, match="lock of document 'a' was lost"):
            writer.publish(b"manifest of new")

    assert everything(client) == before


# Expiry and eviction


def test_staging_expires_after_a_day_and_what_is_published_never(
    store: RedisStore, client: Redis
) -> None:
    with store.writer(SPACE, "a", OLD) as writer:
        writer.write("l2:0", [b"x"])
        writer.write("l2:1", [b"x"])
        assert {client.ttl(key(p)) for p in (f"{OLD}:l2:0", "names", "state")} == {DAY}
        writer.publish(b"m")
        writer.write("l2:1", [b"repaired"])
    with store.writer(SPACE, "a", OLD) as writer:
        writer.write("l2:0", [b"repaired"])
    with store.writer(SPACE, "a", NEW) as writer:
        writer.write("l2:0", [b"new"])

    parts = ("manifest", "names", "state", f"{OLD}:l2:0", f"{OLD}:l2:1")
    assert {client.ttl(key(part)) for part in parts} == {-1}
    assert client.ttl(key(f"{NEW}:l2:0")) == DAY


def test_staging_that_is_taken_up_again_lives_for_another_day(
    store: RedisStore, client: Redis
) -> None:
    with store.writer(SPACE, "a", OLD) as writer:
        writer.write("l2:0", [b"x"])
        writer.write("l2:1", [b"x"])
    client.expire(key(f"{OLD}:l2:0"), 100)
    client.delete(key(f"{OLD}:l2:1"))

    with store.writer(SPACE, "a", OLD) as writer:
        assert set(writer.staged()) == {"l2:0"}

    assert client.ttl(key(f"{OLD}:l2:0")) == DAY


def test_a_document_is_not_published_without_a_value_that_was_evicted(
    store: RedisStore, client: Redis
) -> None:
    publish(store, "a", OLD)
    with store.writer(SPACE, "a", NEW) as writer:
        writer.write("l2:0", [b"new"])
        writer.write("l2:1", [b"new"])
        client.delete(key(f"{NEW}:l2:0"))

        with pytest.raises(StoreError, match="evicts or expires"):
            writer.publish(b"manifest of new")

    assert store.load_manifest(SPACE, "a") == f"manifest of {OLD}".encode()
    assert bytes(store.read(SPACE, "a", OLD, "l2:0")) == f"body of {OLD}".encode()


@pytest.mark.parametrize("replace", [True, False])
def test_values_whose_names_were_evicted_are_removed_all_the_same(
    store: RedisStore, client: Redis, *, replace: bool
) -> None:
    publish(store, "a", OLD)
    client.delete(key("names"))

    if replace:
        publish(store, "a", NEW)
        assert client.exists(key(f"{OLD}:l2:0")) == 0
    assert store.delete(SPACE, "a") is True

    assert client.keys("acre:{*") == []


@pytest.mark.parametrize("lost", [True, False])
def test_a_listing_survives_the_loss_of_its_index(
    store: RedisStore, client: Redis, *, lost: bool
) -> None:
    publish(store, "a")
    assert len(list(store.manifests(SPACE))) == 1
    if lost:
        client.delete("acre:documents")

    publish(store, "b")
    with store.writer(SPACE, "c", OLD) as writer:
        writer.write("l2:0", [b"staged"])

    assert {digest for digest, _ in store.manifests(SPACE)} == {
        document_digest("a"),
        document_digest("b"),
    }
    client.delete(key("manifest"))
    assert {digest for digest, _ in store.manifests(SPACE)} == {document_digest("b")}
    assert store.delete(SPACE, "b") is True
    assert store.spaces() == []


def test_a_listing_that_was_interrupted_is_begun_anew(store: RedisStore, client: Redis) -> None:
    publish(store, "a")
    client.sadd("acre:documents", "building")

    assert store.spaces() == [SPACE]
    assert client.smembers("acre:documents") >= {b"complete"}
