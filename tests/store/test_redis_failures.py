"""Questions to a Redis that fails: answered from the text where that is known, or one error."""

import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from acre_rag.answer import Answer
from acre_rag.engine import ACREEngine
from acre_rag.errors import DocumentNotFoundError, DocumentReplacedError, StoreError
from acre_rag.store.redis import RedisStore
from acre_rag.text.document import Document
from tests.conftest import MakeEngine
from tests.engine.texts import CAT, FOX, HEN, QUESTION
from tests.store.proxy import Proxy, silent_server
from tests.store.servers import Server, eventually, free_port, running
from tests.tiny import tiny_settings

pytestmark = pytest.mark.redis

RAISE = tiny_settings(on_damage="raise")
PERSISTENT = ("--appendonly", "yes", "--appendfsync", "always")
Open = Callable[..., ACREEngine]


@pytest.fixture
def opened(make_engine: MakeEngine) -> Iterator[Open]:
    """Make engines over Redis, each with connections of its own, as other processes would be."""
    stores = []

    def make(url: str, **settings: object) -> ACREEngine:
        stores.append(RedisStore(url))
        return make_engine(store=stores[-1], **settings)

    yield make
    for store in stores:
        store.close()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


def ask(engine: ACREEngine, documents: list[str] | None = None) -> Answer:
    return engine.ask(QUESTION, documents, max_new_tokens=6)


def same(ours: Answer, theirs: Answer) -> bool:
    return (ours.text, ours.sources) == (theirs.text, theirs.sources)


def everything(client: Redis) -> dict[bytes, object]:
    """All that is stored of documents; when they were used last does not count."""
    return {k: client.dump(k) for k in client.keys("acre:{*") if not k.endswith(b":state")}


def drop_values(client: Redis, ending: str = "l2:*") -> None:
    for name in client.keys(f"acre:*:{ending}"):
        client.delete(name)


@pytest.mark.parametrize("documents", [None, ["cat", "hen"]])
def test_a_process_that_has_read_documents_answers_without_the_server(
    tmp_path: Path, opened: Open, documents: list[str] | None
) -> None:
    with running(tmp_path, *PERSISTENT) as server, Redis(port=server.port) as client:
        writer = opened(server.url)
        writer.ingest([CAT, HEN])
        expected = ask(writer, documents)
        stored = everything(client)
        server.kill()

        with within(60):
            answer = ask(writer, documents)
        assert same(answer, expected)
        assert answer.usage.recomputed_tokens > 0

        server.start()
        answer = ask(writer, documents)
        assert same(answer, expected)
        assert answer.usage.recomputed_tokens == 0
        assert everything(client) == stored


@pytest.mark.parametrize("documents", [None, ["cat"]])
@pytest.mark.parametrize("port", [free_port, lambda: None], ids=["dead", "silent"])
def test_a_process_without_the_text_gets_one_clear_error(
    opened: Open, port: Callable[[], int | None], documents: list[str] | None
) -> None:
    with silent_server() as silent:
        engine = opened(f"redis://127.0.0.1:{port() or silent}/0?socket_timeout=0.3")

        with (
            within(15),
            pytest.raises(StoreError, match=r"cannot \w+ in redis://127\.0") as caught,
        ):
            ask(engine, documents)

        assert "expected" in str(caught.value)


def test_an_outage_is_raised_where_that_is_wished(tmp_path: Path, opened: Open) -> None:
    with running(tmp_path) as server:
        engine = opened(server.url, config=RAISE)
        engine.ingest([CAT])
        ask(engine)
        server.kill()

        for documents in (None, ["cat"]):
            with within(60), pytest.raises(StoreError, match="start it"):
                ask(engine, documents)


def test_a_deleted_document_is_not_answered_from_memory(tmp_path: Path, opened: Open) -> None:
    with running(tmp_path) as server:
        engine, other = opened(server.url), opened(server.url)
        engine.ingest([CAT, HEN])
        ask(engine)
        other.delete("cat")
        with pytest.raises(DocumentNotFoundError):
            ask(engine, ["cat"])
        ask(engine)
        server.kill()

        with pytest.raises(StoreError, match="start it"):
            ask(engine, ["cat"])
        assert {source.document for source in ask(engine).sources} == {"hen"}


def test_a_full_server_answers_and_loses_nothing(tmp_path: Path, opened: Open) -> None:
    with running(tmp_path) as server, Redis(port=server.port) as client:
        engine = opened(server.url)
        engine.ingest([CAT, HEN])
        expected = ask(engine)
        drop_values(client)
        stored = everything(client)
        client.config_set("maxmemory", 1)

        for asked in (engine, opened(server.url)):
            answer = ask(asked)
            assert same(answer, expected)
            assert answer.usage.recomputed_tokens > 0
        with pytest.raises(StoreError, match="raise maxmemory"):
            engine.ingest([FOX])
        assert everything(client) == stored

        client.config_set("maxmemory", 0)
        ask(engine)
        assert ask(engine).usage.recomputed_tokens == 0


def test_a_replica_answers_even_what_it_cannot_mend(
    tmp_path: Path, redis_server: Server, opened: Open
) -> None:
    writer = opened(redis_server.url)
    writer.ingest([CAT, HEN])
    expected = ask(writer)
    with (
        running(tmp_path, "--replicaof", "127.0.0.1", str(redis_server.port)) as replica,
        Redis(port=redis_server.port) as client,
        Redis(port=replica.port) as behind,
    ):
        eventually(lambda: behind.dbsize() == client.dbsize())
        reader = opened(replica.url)
        answer = ask(reader)
        assert same(answer, expected)
        assert answer.usage.recomputed_tokens == 0

        drop_values(client)
        eventually(lambda: behind.dbsize() == client.dbsize())

        assert same(ask(reader), expected)
        with pytest.raises(StoreError, match="name the primary"):
            reader.ingest([FOX])


def test_a_slow_server_is_waited_for_and_one_that_is_too_slow_is_not(
    redis_server: Server, opened: Open
) -> None:
    direct = opened(redis_server.url)
    direct.ingest([CAT, HEN])
    expected = ask(direct)
    proxy = Proxy(redis_server.port)
    engine = opened(f"{proxy.url}?socket_timeout=0.3")

    proxy.delay_seconds = 0.01
    answer = ask(engine)
    assert same(answer, expected)
    assert answer.usage.recomputed_tokens == 0

    proxy.delay_seconds = 0.7
    with within(60):
        assert same(ask(engine), expected)
    with within(60), pytest.raises(StoreError, match="an answer"):
        ask(opened(f"{proxy.url}?socket_timeout=0.3"))
    proxy.close()


def test_a_server_whose_answers_drip_is_given_up(redis_server: Server, opened: Open) -> None:
    direct = opened(redis_server.url)
    direct.ingest([CAT])
    expected = ask(direct)
    proxy = Proxy(redis_server.port)
    url = f"{proxy.url}?socket_timeout=0.4"
    engine, raising = opened(url), opened(url, config=RAISE)
    for one in (engine, raising):
        assert same(ask(one), expected)
    proxy.piece_bytes, proxy.delay_seconds = 16, 0.05

    with within(60):
        answer = ask(engine)
    assert same(answer, expected)
    assert answer.usage.recomputed_tokens > 0
    for one in (raising, opened(url)):
        with within(60), pytest.raises(StoreError, match="expected an answer in time"):
            ask(one, ["cat"])
    proxy.close()


def test_values_that_break_off_again_and_again_are_read_from_text(
    redis_server: Server, opened: Open
) -> None:
    direct = opened(redis_server.url)
    direct.ingest([CAT, HEN])
    expected = ask(direct)
    proxy = Proxy(redis_server.port)
    engine = opened(proxy.url)
    assert same(ask(engine), expected)
    proxy.always_cut = 700
    proxy.break_off()

    with within(60):
        answer = ask(engine)

    assert same(answer, expected)
    assert answer.usage.recomputed_tokens > 0
    with within(60), pytest.raises(StoreError, match="cannot"):
        ask(opened(proxy.url))
    proxy.close()


def _break_off(proxy: Proxy, _: Redis) -> None:
    proxy.always_cut = 700
    proxy.break_off()


def _slow_down(proxy: Proxy, _: Redis) -> None:
    proxy.delay_seconds = 1.2


def _evict(_: Proxy, client: Redis) -> None:
    drop_values(client)
    client.config_set("maxmemory", 1)  # nor is there room to mend it


@pytest.mark.parametrize(
    ("fail", "told"),
    [
        (_break_off, "cannot .*expected a server that answers"),
        (_slow_down, "cannot .*expected an answer in time"),
        (_evict, "found no value"),
    ],
)
def test_every_failure_is_one_clear_error_where_that_is_wished(
    tmp_path: Path, opened: Open, fail: Callable[[Proxy, Redis], None], told: str
) -> None:
    with running(tmp_path) as server, Redis(port=server.port) as client:
        opened(server.url).ingest([CAT, HEN])
        stored = everything(client)
        proxy = Proxy(server.port)
        engine = opened(f"{proxy.url}?socket_timeout=0.5", config=RAISE)
        expected = ask(engine)
        values = {name: client.get(name) for name in client.keys("acre:*:l[12]:*")}

        fail(proxy, client)
        for one in (engine, opened(f"{proxy.url}?socket_timeout=0.5", config=RAISE)):
            with within(60), pytest.raises(StoreError, match=told):
                ask(one)

        proxy.always_cut, proxy.delay_seconds = None, 0
        client.config_set("maxmemory", 0)
        for name in values.keys() - set(client.keys()):
            client.set(name, values[name])
        assert everything(client) == stored
        assert same(ask(engine), expected)
        proxy.close()


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random"])
def test_a_server_that_evicts_under_pressure_never_gives_a_wrong_answer(
    tmp_path: Path, opened: Open, policy: str
) -> None:
    documents = [CAT, HEN]
    with (
        running(tmp_path, "--maxmemory-policy", policy) as server,
        Redis(port=server.port) as client,
    ):
        engine = opened(server.url)
        engine.ingest(documents)
        expected = {document.id: ask(engine, [document.id]) for document in documents}
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 20_000)
        mended = 0

        for number in range(40):
            with suppress(RedisError):
                client.set(f"junk {number}", b"x" * 1500)
            for document in documents:
                try:
                    answer = ask(engine, [document.id])
                except DocumentNotFoundError:
                    mended += 1  # the manifest itself was evicted: like one that was deleted
                    with suppress(StoreError):
                        engine.ingest([document])
                else:
                    assert same(answer, expected[document.id])
                    mended += answer.usage.recomputed_tokens

        assert client.info("stats")["evicted_keys"] > 0
        assert mended > 0 or policy == "allkeys-lru"  # which spares what is read all the time


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_engines_that_write_read_and_delete_one_document_see_it_whole(
    redis_server: Server, opened: Open, seconds: int
) -> None:
    versions = [Document(id="one", text=document.text) for document in (CAT, HEN)]
    expected = []
    for version in versions:
        engine = opened(redis_server.url)
        engine.ingest([version])
        expected.append(ask(engine))
    stop, failures, answered = threading.Event(), [], []

    def repeat(act: Callable[[ACREEngine], None]) -> None:
        engine = opened(redis_server.url)
        try:
            while not stop.is_set():
                with suppress(DocumentNotFoundError, DocumentReplacedError):
                    act(engine)
        except Exception as error:  # noqa: BLE001  # it is raised again, by the test's own thread
            failures.append(error)
            stop.set()

    def read(engine: ACREEngine) -> None:
        answer = ask(engine, ["one"])
        assert any(same(answer, one) for one in expected)
        answered.append(answer.usage.recomputed_tokens)

    def delete(engine: ACREEngine) -> None:
        stop.wait(0.2)
        engine.delete("one")

    turn = cycle(versions)

    def write(engine: ACREEngine) -> None:
        engine.ingest([next(turn)])
        stop.wait(0.1)  # locks are not queued for: leave a moment to the others

    acts = (write, write, *[read] * 8, delete)
    threads = [threading.Thread(target=repeat, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    stop.wait(seconds)
    stop.set()
    for thread in threads:
        thread.join()

    if failures:
        raise failures[0]
    assert answered


def test_passwords_are_in_no_log_error_or_repr(
    tmp_path: Path, opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    told = []
    with caplog.at_level(logging.DEBUG), running(tmp_path, "--requirepass", "s3cret") as server:
        place = f"127.0.0.1:{server.port}"
        engine = opened(f"redis://:s3cret@{place}/0?buffers=reused")
        engine.ingest([CAT])
        ask(engine)
        server.kill()
        ask(engine)
        for url in (
            f"redis://:s3cret@{place}/0",
            f"redis+cluster://:s3cret@{place}",
            f"redis+sentinel://:s3cret@{place}/name?sentinel_password=s3cret",
            f"redis://{place}/0?password=s3cret",
        ):
            with suppress(StoreError):
                told.append(repr(opened(url).store))
            with pytest.raises(StoreError) as caught:
                opened(url.partition("?sentinel")[0]).ingest([CAT])
            told += traceback.format_exception(caught.value, chain=True)

    assert "cannot" in caplog.text
    assert "s3cret" not in caplog.text + "".join(told)
