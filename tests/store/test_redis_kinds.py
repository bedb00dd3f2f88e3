"""Redis in all its kinds: clusters, behind Sentinels, over TLS, for users with few rights."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis, RedisCluster

from acre_rag.errors import StoreError
from acre_rag.store import CacheStore, open_store
from acre_rag.store.address import document_digest
from acre_rag.store.redis import RedisStore
from tests.store.servers import (
    Server,
    eventually,
    free_port,
    running,
    running_cluster,
    running_sentinel,
)

pytestmark = pytest.mark.redis

SPACE = "5bace0" * 4
OLD, NEW = "0" * 16, "1" * 16


def publish(store: CacheStore, document_id: str, version: str = OLD) -> None:
    with store.writer(SPACE, document_id, version) as writer:
        for number in range(3):
            writer.write(f"l2:{number}", [f"{document_id} {number} {version}".encode()])
        writer.publish(f"manifest of {document_id}".encode())


def is_whole(store: CacheStore, document_id: str, version: str = OLD) -> bool:
    if store.load_manifest(SPACE, document_id) != f"manifest of {document_id}".encode():
        return False
    values = [store.read(SPACE, document_id, version, f"l2:{number}") for number in range(3)]
    return [bytes(value) for value in values] == [
        f"{document_id} {number} {version}".encode() for number in range(3)
    ]


# Clusters


@pytest.fixture
def cluster(shared_redis_cluster: list[Server]) -> list[Server]:
    """Three servers with nothing in them."""
    for server in shared_redis_cluster:
        with Redis(port=server.port) as client:
            client.flushall()
    return shared_redis_cluster


def test_a_cluster_is_one_store(cluster: list[Server]) -> None:
    store = open_store(f"redis+cluster://127.0.0.1:{cluster[1].port}?max_bytes=1gb")
    documents = [f"document {number}" for number in range(24)]
    for document_id in documents:
        publish(store, document_id)
    publish(store, documents[0], NEW)
    assert isinstance(store, RedisStore)
    store.pin(SPACE, documents[1])

    holders = []
    for server in cluster:
        with Redis(port=server.port) as client:
            holders.append({k[k.index(b"{") : k.index(b"}")] for k in client.keys("acre:{*")})
            client.delete("acre:documents") if client.keys("acre:documents") else None

    assert all(holders)
    assert sum(len(held) for held in holders) == len(set.union(*holders)) == len(documents)
    again = open_store(store.url)
    assert len(list(again.manifests(SPACE))) == len(documents)
    assert again.spaces() == [SPACE]
    assert is_whole(again, documents[0], NEW)
    assert all(is_whole(again, document_id) for document_id in documents[1:])
    assert sum(use.pinned for use in store.uses()) == 1
    assert all(again.delete(SPACE, document_id) for document_id in documents)
    assert list(store.uses()) == []
    for opened in (store, again):
        opened.close()


def test_a_given_client_of_a_cluster_is_used_and_left_open(cluster: list[Server]) -> None:
    with RedisCluster(host="127.0.0.1", port=cluster[0].port) as client:
        store = RedisStore(client, namespace="given")
        publish(store, "a")
        store.close()

        assert store.url.startswith("redis+cluster://127.0.0.1:")
        assert is_whole(store, "a")
        assert store.delete(SPACE, "a") is True


def test_one_server_of_a_cluster_says_how_to_name_it(cluster: list[Server]) -> None:
    store = RedisStore(cluster[0].url)

    with pytest.raises(StoreError, match="redis\\+cluster://"):
        list(map(store.delete, [SPACE] * 24, map(str, range(24))))

    store.close()


def test_a_dead_cluster_is_reported_when_it_is_used() -> None:
    store = RedisStore(f"redis+cluster://:s3cret@127.0.0.1:{free_port()}")

    with pytest.raises(StoreError, match="start") as caught:
        store.load_manifest(SPACE, "a")

    assert "s3cret" not in str(caught.value) + repr(store)
    store.close()


@pytest.mark.slow
def test_a_cluster_that_lost_a_server_serves_what_the_others_hold(tmp_path: Path) -> None:
    documents = [f"document {number}" for number in range(12)]
    with running_cluster(tmp_path) as servers:
        store = RedisStore(f"redis+cluster://127.0.0.1:{servers[0].port}")
        for document_id in documents:
            publish(store, document_id)
        for server in servers:
            with Redis(port=server.port) as client:
                client.config_set("cluster-require-full-coverage", "no")
        with Redis(port=servers[2].port) as client:
            slots = {key[key.index(b"{") : key.index(b"}")] for key in client.keys("acre:{*")}
        servers[2].kill()

        lost = 0
        for document_id in documents:
            if f"{{{SPACE}.{document_digest(document_id)}".encode() not in slots:
                assert is_whole(store, document_id)
                continue
            lost += 1
            started = time.monotonic()
            with pytest.raises(StoreError, match=r"expected a .* that answers"):
                store.load_manifest(SPACE, document_id)
            assert time.monotonic() - started < 15
        with pytest.raises(StoreError, match="that answers"):
            list(store.manifests(SPACE))
        store.close()

    assert 0 < lost < len(documents)


# Sentinels


@pytest.mark.slow
def test_sentinels_lead_to_the_new_primary_when_the_old_one_is_lost(tmp_path: Path) -> None:
    login = ("--requirepass", "let me/in", "--masterauth", "let me/in")
    with (
        running(tmp_path / "primary", *login) as primary,
        running(
            tmp_path / "replica", *login, "--replicaof", "127.0.0.1", str(primary.port)
        ) as replica,
        running_sentinel(
            tmp_path / "sentinel", primary, 'sentinel auth-pass caches "let me/in"'
        ) as port,
        Redis(port=replica.port, password="let me/in") as behind,
        Redis(port=port) as sentinel,
    ):
        nowhere = free_port()
        url = f"redis+sentinel://:let%20me%2Fin@127.0.0.1:{nowhere},127.0.0.1:{port}/caches"
        store = open_store(url)
        eventually(lambda: behind.info("replication")["master_link_status"] == "up")
        eventually(lambda: sentinel.sentinel_slaves("caches"))
        publish(store, "a")
        assert store.url == f"redis+sentinel://127.0.0.1:{nowhere},127.0.0.1:{port}/caches/0"
        eventually(lambda: behind.dbsize() >= 6)

        primary.kill()

        eventually(lambda: _reached(store), seconds=60)
        assert is_whole(store, "a")
        publish(store, "b")
        assert is_whole(store, "b")
        store.close()


def _reached(store: CacheStore) -> bool:
    try:
        publish(store, "probe")
    except StoreError:
        return False
    return True


def test_a_sentinel_that_knows_no_such_primary_is_an_error(tmp_path: Path) -> None:
    with (
        running(tmp_path / "primary") as primary,
        running_sentinel(tmp_path / "sentinel", primary) as port,
    ):
        store = RedisStore(f"redis+sentinel://127.0.0.1:{port}/nobody")
        with pytest.raises(StoreError, match="cannot read"):
            store.load_manifest(SPACE, "a")
        store.close()


def test_sentinels_may_want_a_password_of_their_own(tmp_path: Path) -> None:
    with (
        running(tmp_path / "primary") as primary,
        running_sentinel(tmp_path / "sentinel", primary, password="watch") as port,
    ):
        place = f"redis+sentinel://127.0.0.1:{port}/caches"
        store = open_store(f"{place}?sentinel_password=watch")
        publish(store, "a")
        assert is_whole(store, "a")
        store.close()

        refused = open_store(place)
        with pytest.raises(StoreError, match="cannot read"):
            refused.load_manifest(SPACE, "a")
        refused.close()


# TLS, sockets and users


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that a machine has signed for itself, as an authority of one."""
    folder = tmp_path_factory.mktemp("certificate")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def test_tls_is_spoken_and_the_server_is_checked(tmp_path: Path, certificate: Path) -> None:
    port = free_port()
    paper = str(certificate / "certificate.pem")
    options = ("--tls-port", str(port), "--tls-cert-file", paper, "--tls-ca-cert-file", paper)
    options += ("--tls-key-file", str(certificate / "key.pem"), "--tls-auth-clients", "no")
    with running(tmp_path, *options, "--requirepass", "letmein"):
        trusting = open_store(f"rediss://:letmein@localhost:{port}/0?ssl_ca_certs={paper}")
        publish(trusting, "a")
        assert is_whole(trusting, "a")
        assert trusting.url == f"rediss://localhost:{port}/0"
        trusting.close()

        doubting = open_store(f"rediss://:letmein@localhost:{port}/0")
        with pytest.raises(StoreError, match="certificate"):
            doubting.load_manifest(SPACE, "a")
        doubting.close()


WRITER = "~team:* resetchannels +@read +@write +@connection +eval +time -@dangerous"
READER = "~team:* resetchannels +@read +@connection -@dangerous"


@pytest.fixture
def users(redis_server: Server) -> Iterator[Server]:
    """A server with one user who may write, and one who may read."""
    with Redis(port=redis_server.port) as client:
        for name, rights in (("writer", WRITER), ("reader", READER)):
            client.execute_command("ACL", "SETUSER", name, "reset", "on", ">pw", *rights.split())
        yield redis_server
        client.execute_command("ACL", "DELUSER", "writer", "reader")


def test_the_page_about_stores_names_these_rights() -> None:
    page = (Path(__file__).parents[2] / "docs" / "stores.md").read_text(encoding="utf-8")

    assert f"SETUSER writer reset on >password {WRITER}\n" in page
    assert f"SETUSER reader reset on >password {READER}\n" in page


def test_a_user_of_one_namespace_can_do_all_that_a_store_does(users: Server) -> None:
    store = RedisStore(
        f"redis://writer:pw@127.0.0.1:{users.port}/0",
        namespace="team",
        ttl_seconds=1000,
        max_bytes=10**6,
    )

    publish(store, "a")
    publish(store, "b")
    store.pin(SPACE, "b")

    assert is_whole(store, "a")
    assert len(list(store.manifests(SPACE))) == len(list(store.uses())) == 2
    assert store.delete(SPACE, "a") is True
    with pytest.raises(StoreError, match="change the ACL"):
        publish(RedisStore(f"redis://writer:pw@127.0.0.1:{users.port}/0"), "a")
    store.close()


def test_a_user_who_may_only_read_reads(users: Server) -> None:
    owner = RedisStore(users.url, namespace="team")
    publish(owner, "a")
    store = open_store(f"redis://reader:pw@127.0.0.1:{users.port}/0?namespace=team")

    assert is_whole(store, "a")
    assert len(list(store.manifests(SPACE))) == 1
    with pytest.raises(StoreError, match="change the ACL"):
        publish(store, "b")
    with pytest.raises(StoreError, match="change the ACL"):
        store.delete(SPACE, "a")
    for opened in (owner, store):
        opened.close()


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://:s3cret@host:26379",
        "redis+sentinel://:s3cret@/name",
        "redis+cluster://:s3cret@host/3",
        "redis+cluster://:s3cret@host?no_such_option=1",
        "redis+sentinel://:s3cret@host/name?no_such_option=1",
        "redis+sentinel://:s3cret@host:port/name",
    ],
)
def test_malformed_urls_of_all_kinds_are_refused_without_telling_a_password(url: str) -> None:
    with pytest.raises(StoreError, match="malformed Redis URL") as caught:
        RedisStore(url)

    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis+cluster://me:s3cret@[::1]:7000", "redis+cluster://[::1]:7000"),
        ("rediss+cluster://:s3cret@host?namespace=a", "rediss+cluster://host:6379?namespace=a"),
        ("redis+sentinel://:s3cret@a,b:7/name/2", "redis+sentinel://a:26379,b:7/name/2"),
        ("rediss+sentinel://:s3cret@a/name", "rediss+sentinel://a:26379/name/0"),
    ],
)
def test_urls_of_all_kinds_tell_no_password(url: str, shown: str) -> None:
    store = RedisStore(url)

    assert store.url == shown
    assert "s3cret" not in repr(store)
    store.close()
