"""What happens around a selection while it is read: the process forks, its slot moves away."""

import os
from collections.abc import Iterator, Set
from contextlib import ExitStack, closing

import numpy as np
import pytest
from redis import Redis, RedisCluster
from redis.crc import key_slot

from acre_rag.store.address import document_digest
from acre_rag.store.redis import RedisStore
from tests.store.servers import Server

pytestmark = pytest.mark.redis

SPACE, VERSION = "5bace0" * 4, "0" * 16
FORKED = pytest.mark.filterwarnings(
    "ignore:.*multi-threaded, use of fork:DeprecationWarning"  # of Python 3.12
)
NAMES = [f"l2:{number}" for number in range(30)]


def publish(store: RedisStore, size: int = 100_000) -> list[bytes]:
    """Publish a document whose values all differ."""
    values = [np.random.default_rng(n).bytes(size + n) for n in range(len(NAMES))]
    with store.writer(SPACE, "a", VERSION) as writer:
        for name, value in zip(NAMES, values, strict=True):
            writer.write(name, [value])
        writer.publish(b"manifest")
    return values


# Forks


def idle_ports(store: RedisStore) -> set[int]:
    """Tell the connections that wait for the next who asks from all others."""
    assert store._receiver is not None
    every = store._receiver._connections._idle.values()
    return {one._sock.getsockname()[1] for connections in every for one in connections}


def in_a_fork(
    reads: Iterator[memoryview],
    store: RedisStore,
    values: list[bytes],
    apart_from: Set[int] = frozenset(),
) -> int:
    """Read on in a process forked off this one, and anew; gives its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        rest = [bytes(value) for value in reads]
        anew = [bytes(value) for value in store.read_each(SPACE, "a", VERSION, NAMES)]
        single = bytes(store.read(SPACE, "a", VERSION, NAMES[7]))
        found = store.load_manifest(SPACE, "a")
        right = values[len(values) - len(rest) :], values, values[7], b"manifest"
        own = not apart_from & idle_ports(store)
        code = 0 if own and (rest, anew, single, found) == right else 2
    finally:
        os._exit(code)


@FORKED
@pytest.mark.parametrize("buffers", ["fresh", "reused"])
@pytest.mark.parametrize("taken", [0, 1, 11, len(NAMES)])
def test_a_process_and_its_forks_read_on_at_the_same_time(
    redis_server: Server, buffers: str, taken: int
) -> None:
    store = RedisStore(f"{redis_server.url}?buffers={buffers}")
    values = publish(store)
    assert bytes(store.read(SPACE, "a", VERSION, NAMES[0])) == values[0]  # it has connections
    reads = store.read_each(SPACE, "a", VERSION, NAMES)
    with closing(reads):
        first = [bytes(next(reads)) for _ in range(taken)]  # type: ignore[arg-type]
        children = [in_a_fork(reads, store, values) for _ in range(3)]
        rest = [bytes(value) for value in reads]  # type: ignore[arg-type]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]

    assert first + rest == values
    assert codes == [0, 0, 0]
    assert [bytes(value) for value in store.read_each(SPACE, "a", VERSION, NAMES)] == values  # type: ignore[arg-type]
    store.close()


@FORKED
def test_a_fork_leaves_connections_that_wait_to_its_parent(redis_server: Server) -> None:
    store = RedisStore(redis_server.url)
    values = publish(store)
    store.read(SPACE, "a", VERSION, NAMES[0])
    ours = idle_ports(store)

    child = in_a_fork(store.read_each(SPACE, "a", VERSION, NAMES), store, values, apart_from=ours)

    assert len(ours) == 1
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert bytes(store.read(SPACE, "a", VERSION, NAMES[1])) == values[1]
    assert idle_ports(store) == ours
    store.close()


# Slots


class Slot:
    """The slot of a document in a cluster, on its way from the server that has it to another."""

    def __init__(self, servers: list[Server], clients: list[Redis], key: str) -> None:
        self._number = key_slot(key.encode())
        self._clients = clients
        self._ids = [client.execute_command("CLUSTER", "MYID") for client in clients]
        self._source = next(
            place
            for place, client in enumerate(clients)
            if client.execute_command("CLUSTER", "COUNTKEYSINSLOT", self._number)
        )
        self._target = (self._source + 1) % len(clients)
        self._ports = [server.port for server in servers]

    def begin(self, *, keys: int) -> None:
        """Begin to move: some keys are there, the others still here."""
        self._set(self._target, "IMPORTING", self._ids[self._source])
        self._set(self._source, "MIGRATING", self._ids[self._target])
        self._move(keys)

    def finish(self) -> None:
        """Move all that is left, and tell every server."""
        while self._move(100):
            pass
        for server in (self._target, self._source, *range(len(self._clients))):
            self._set(server, "NODE", self._ids[self._target])
        self._source, self._target = self._target, self._source

    def _set(self, server: int, *words: object) -> None:
        self._clients[server].execute_command("CLUSTER", "SETSLOT", self._number, *words)

    def _move(self, count: int) -> int:
        here = self._clients[self._source]
        keys = here.execute_command("CLUSTER", "GETKEYSINSLOT", self._number, count)
        if keys:
            there = ("127.0.0.1", self._ports[self._target], "", 0, 20_000)
            here.execute_command("MIGRATE", *there, "KEYS", *keys)
        return len(keys)


@pytest.fixture
def cluster(shared_redis_cluster: list[Server]) -> Iterator[tuple[list[Server], list[Redis]]]:
    """Three servers with nothing in them, and a client of each."""
    with ExitStack() as stack:
        clients = [stack.enter_context(Redis(port=s.port)) for s in shared_redis_cluster]
        for client in clients:
            client.flushall()
        yield shared_redis_cluster, clients


@pytest.mark.parametrize("given", [False, True], ids=["url", "client"])
@pytest.mark.parametrize("taken", [0, 5])
def test_a_selection_goes_on_while_its_slot_moves_and_after(
    cluster: tuple[list[Server], list[Redis]], taken: int, given: bool
) -> None:
    servers, clients = cluster
    port = servers[0].port
    with RedisCluster(host="127.0.0.1", port=port) as client:
        store = RedisStore(client if given else f"redis+cluster://127.0.0.1:{port}")
        values = publish(store)
        slot = Slot(servers, clients, f"acre:{{{SPACE}.{document_digest('a')}}}:manifest")
        try:
            for step in ("begun", "ended", "back"):
                with closing(store.read_each(SPACE, "a", VERSION, NAMES)) as reads:
                    found = [next(reads) for _ in range(taken)]
                    slot.begin(keys=12) if step == "begun" else slot.finish()
                    found += list(reads)
                assert [bytes(value) for value in found] == values  # type: ignore[arg-type]
                assert bytes(store.read(SPACE, "a", VERSION, NAMES[3])) == values[3]
                assert store.load_manifest(SPACE, "a") == b"manifest"
                if step == "ended":
                    slot.begin(keys=12)
        finally:
            store.close()
