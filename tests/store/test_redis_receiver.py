"""Values from Redis in memory that is used again: the same bytes, for as long as they are seen."""

import gc
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import numpy as np
import pytest
import torch
from redis import Redis, RedisCluster

from acre_rag.errors import DamagedCacheError, StoreError
from acre_rag.store.redis import RedisStore
from acre_rag.store.redis_buffers import Buffers
from acre_rag.store.redis_receiver import Receiver, _Answers, _Connections
from acre_rag.store.redis_server import RedisServer
from tests.store.proxy import Proxy
from tests.store.servers import Server

pytestmark = pytest.mark.redis

SPACE, VERSION = "5bace0" * 4, "0" * 16


@pytest.fixture
def client(redis_server: Server) -> Iterator[Redis]:
    with Redis(port=redis_server.port) as opened:
        yield opened


def buffers() -> Buffers:
    return Buffers(lambda size: np.empty(size, np.uint8))


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def receiver(request: pytest.FixtureRequest, redis_server: Server) -> Iterator[Receiver]:
    with Redis(port=redis_server.port, protocol=request.param) as opened:
        made = Receiver(RedisServer(lambda: opened, "redis", retries=2), buffers())
        yield made
        made.close()


@contextmanager
def receiving(proxy: Proxy, *, retries: int) -> Iterator[Receiver]:
    """Receive through a bad connection, which is gone in the end."""
    with Redis.from_url(proxy.url, socket_timeout=5) as asking:
        receiver = Receiver(RedisServer(lambda: asking, "redis", retries=retries), buffers())
        yield receiver
        receiver.close()


def address(view: memoryview) -> int:
    return int(np.frombuffer(view, np.uint8).__array_interface__["data"][0])


@pytest.mark.parametrize("size", [0, 1, 25, 26, 27, 28, 29, 30, 31, 32, 65_534, 65_535, 3_000_001])
def test_values_of_any_size_come_whole_one_after_the_other(
    receiver: Receiver, client: Redis, size: int
) -> None:
    values = {f"k{number}": np.random.default_rng(number).bytes(size) for number in range(3)}
    for name, value in values.items():
        client.set(name, value)

    found = {name: receiver.get(name) for name in (*values, *values)}

    assert {name: bytes(view or b"none") for name, view in found.items()} == {
        name: value for name, value in values.items() if value
    } | ({} if size else dict.fromkeys(values, b"none"))
    assert all(view is not None and view.nbytes == size for view in found.values())


def test_what_is_no_string_has_no_bytes(receiver: Receiver, client: Redis) -> None:
    client.rpush("list", "x")

    assert receiver.get("nothing") is None
    assert receiver.get("list") == b""
    assert receiver.get("nothing") is None


def test_memory_is_used_again_when_nobody_looks_at_it(receiver: Receiver, client: Redis) -> None:
    client.set("k", b"x" * 100_000)
    first = receiver.get("k")
    assert first is not None
    place = address(first)
    tensor = torch.frombuffer(np.frombuffer(first, np.uint8), dtype=torch.uint8)[5:]
    del first

    second = receiver.get("k")
    assert second is not None
    assert address(second) != place
    client.set("k", b"y" * 100_000)
    receiver.get("k")
    assert (tensor == ord("x")).all()
    del tensor
    gc.collect()

    assert place in {address(view) for _ in range(3) if (view := receiver.get("k"))}


def test_any_number_of_threads_may_receive(receiver: Receiver, client: Redis) -> None:
    for number in range(8):
        client.set(f"k{number}", bytes([number]) * (100_000 + number))
    wrong = []

    def read(number: int) -> None:
        for _ in range(50):
            view = receiver.get(f"k{number}")
            if view is None or bytes(view) != bytes([number]) * (100_000 + number):
                wrong.append(number)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


def fill(client: Redis, sizes: Iterable[int]) -> dict[str, bytes]:
    """Set strings of some sizes, in order; each of other bytes."""
    values = {f"k{n}": np.random.default_rng(n).bytes(size) for n, size in enumerate(sizes)}
    for name, value in values.items():
        client.set(name, value)
    return values


SIZES = [0, 1, 31, 32, 33, 1000, 27, 300_000, 28, 2_000_001, 0, 65_534, 5, 300_000, 7, 1, 99_999]


def test_many_values_come_in_order_whatever_their_sizes(receiver: Receiver, client: Redis) -> None:
    values = fill(client, SIZES)

    for _ in range(2):
        found = [bytes(view or b"") for view in receiver.get_each(list(values))]

        assert found == list(values.values())


def test_what_is_missing_or_no_string_keeps_nothing_behind_it_from_coming(
    receiver: Receiver, client: Redis
) -> None:
    values = fill(client, SIZES)
    client.rpush("list", "x")
    names = [*list(values)[:3], "nothing", *list(values)[3:6], "list", "list", *list(values)[6:]]

    found = [None if view is None else bytes(view) for view in receiver.get_each(names)]

    assert found == [{"list": b"", "nothing": None, **values}[name] for name in names]


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_who_stops_taking_leaves_no_answer_to_the_next(
    receiver: Receiver, client: Redis, taken: int
) -> None:
    values = fill(client, SIZES)

    with closing(receiver.get_each(list(values))) as reads:
        for _ in range(taken):
            next(reads)

    assert bytes(receiver.get("k3") or b"") == values["k3"]
    assert [bytes(view or b"") for view in receiver.get_each(["k9", "k2"])] == [
        values["k9"],
        values["k2"],
    ]


@pytest.mark.parametrize("cut", [10, 400, 250_000, 1_200_000])
def test_after_a_break_only_what_is_missing_is_asked_for_again(
    redis_server: Server, client: Redis, cut: int
) -> None:
    values = fill(client, [300_000] * 12)
    proxy = Proxy(redis_server.port)
    proxy.cuts = [cut]
    with receiving(proxy, retries=2) as receiver:
        found = [bytes(view or b"") for view in receiver.get_each(list(values))]

        assert found == list(values.values())
        assert proxy.connections == 2
    proxy.close()


def test_a_server_that_goes_away_between_two_values_ends_the_reading_with_one_error(
    redis_server: Server, client: Redis
) -> None:
    values = fill(client, [1_000_000] * 40)
    proxy = Proxy(redis_server.port)
    with receiving(proxy, retries=2) as receiver:
        reads = receiver.get_each(list(values))
        assert bytes(next(reads) or b"") == values["k0"]
        proxy.close()
        proxy.break_off()

        with pytest.raises(StoreError, match="cannot read in redis"):
            list(reads)
        assert list(reads) == []


def test_what_comes_next_is_on_its_way_while_nobody_waits_for_it(
    redis_server: Server, client: Redis
) -> None:
    values = fill(client, [20_000] * 8)
    proxy = Proxy(redis_server.port)
    with (
        receiving(proxy, retries=2) as receiver,
        closing(receiver.get_each(list(values))) as reads,
    ):
        next(reads)
        next(reads)

        deadline = time.monotonic() + 60
        while proxy.forwarded_bytes < 6 * 20_000 and time.monotonic() < deadline:
            time.sleep(0.01)

        assert proxy.forwarded_bytes >= 6 * 20_000
    proxy.close()


def test_no_more_is_asked_for_ahead_than_fits_some_megabytes(client: Redis) -> None:
    values = fill(client, [3_000_000] * 6)
    answers = _Answers(list(values), _Connections(), buffers())

    for _ in range(3):
        assert answers.take(client)[0]
        assert answers._asked - answers._taken <= 2
    answers.close()


@pytest.mark.parametrize(("cuts", "connections"), [([], 1), ([5000], 2), ([10, 5000], 3)])
def test_an_answer_that_breaks_off_is_asked_for_again(
    redis_server: Server, cuts: list[int], connections: int
) -> None:
    direct = RedisStore(redis_server.url)
    with direct.writer(SPACE, "a", VERSION) as writer:
        writer.write("l2:0", [b"x" * 1_000_000])
    proxy = Proxy(redis_server.port)
    proxy.cuts = [*cuts]
    store = RedisStore(proxy.url, buffers="reused")

    value = store._get(_key(direct, "l2:0"))

    assert value is not None
    assert bytes(value) == b"x" * 1_000_000
    assert proxy.connections == connections
    for opened in (direct, store):
        opened.close()
    proxy.close()


def test_connections_that_were_closed_meanwhile_cost_no_attempt(
    redis_server: Server, client: Redis
) -> None:
    client.set("k", b"value")
    proxy = Proxy(redis_server.port)
    proxy.delay_seconds = 0.2  # all ask at the same time
    with receiving(proxy, retries=0) as receiver, ThreadPoolExecutor(4) as threads:
        assert list(threads.map(receiver.get, ["k"] * 4)) == [b"value"] * 4
        assert proxy.connections == 4
        proxy.delay_seconds = 0
        proxy.break_off()

        assert receiver.get("k") == b"value"
        assert proxy.connections == 5
    proxy.close()


def test_an_answer_that_drips_is_given_up_however_short_its_pauses(
    redis_server: Server, client: Redis
) -> None:
    client.set("k", b"x" * 3_000_000)
    proxy = Proxy(redis_server.port)
    proxy.piece_bytes = 4096
    store = RedisStore(f"{proxy.url}?socket_timeout=0.5")
    started = time.monotonic()

    proxy.delay_seconds = 0.05
    with pytest.raises(StoreError, match=r"bytes of an answer after .*expected an answer in time"):
        store._get("k")
    assert 0.5 < time.monotonic() - started < 30  # all of it would take 36

    proxy.piece_bytes, proxy.delay_seconds = 65536, 0.0001
    value = store._get("k")
    assert value is not None
    assert bytes(value) == b"x" * 3_000_000
    store.close()
    proxy.close()


def _key(store: RedisStore, name: str) -> str:
    with store.writer(SPACE, "a", VERSION) as writer:
        return str(writer._keys.value(f"{VERSION}:{name}"))  # type: ignore[attr-defined]


def test_a_store_says_what_is_missing_and_closes_its_connections(
    redis_server: Server, client: Redis
) -> None:
    store = RedisStore(f"{redis_server.url}?buffers=reused&client_name=ours")
    with store.writer(SPACE, "a", VERSION) as writer:
        writer.write("l2:0", [b"abc"])
        writer.publish(b"m")

    assert bytes(store.read(SPACE, "a", VERSION, "l2:0")) == b"abc"
    with pytest.raises(DamagedCacheError):
        store.read(SPACE, "a", VERSION, "l2:1")
    store.close()

    while any(entry["name"] == "ours" for entry in client.client_list()):
        pass


def test_a_cluster_is_received_from_too(shared_redis_cluster: list[Server]) -> None:
    with RedisCluster(host="127.0.0.1", port=shared_redis_cluster[0].port) as cluster:
        receiver = Receiver(RedisServer(lambda: cluster, "redis", retries=2), buffers())
        for number in range(12):
            cluster.set(f"k{number}", f"value {number}")

        found = [receiver.get(f"k{number}") for number in range(12)]
        for number in range(12):
            cluster.set(f"{{tag}}{number}", f"tagged {number}")
        tagged = receiver.get_each([f"{{tag}}{number}" for number in range(12)])

        assert [bytes(view or b"") for view in tagged] == [b"tagged %d" % n for n in range(12)]
        assert [bytes(view or b"") for view in found] == [b"value %d" % n for n in range(12)]
        receiver.close()


def test_a_value_that_claims_to_be_huge_is_never_made_room_for() -> None:
    made: list[int] = []
    room = Buffers(lambda size: made.append(size) or np.empty(size, np.uint8))
    answers = _Answers(["k"], _Connections(), room)
    near, far = socket.socketpair()
    with near, far:
        far.sendall(b"$10995116277760\r\nabc")

        assert answers._receive(near, 5) == (False, None)

    assert made == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU takes pinned memory")
def test_pinned_memory_without_a_gpu_is_refused() -> None:
    with pytest.raises(StoreError, match="choose 'reused'"):
        RedisStore("redis://localhost", buffers="pinned")


def test_other_buffers_are_refused() -> None:
    with pytest.raises(StoreError, match="buffers is 'used'"):
        RedisStore("redis://localhost?buffers=used")
