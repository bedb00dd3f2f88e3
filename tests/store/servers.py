"""Real Redis servers of our own, on free ports and in directories of their own."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from redis import Connection, Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.exceptions import ConnectionError as ConnectionLostError
from redis.retry import Retry


def free_port() -> int:
    """Find a port that nobody else is given for the next minute, though nothing listens there.

    The system keeps it back while a connection to it lingers that was closed by its server.
    """
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        with socket.create_connection(server.getsockname()) as near:
            server.accept()[0].close()
            near.recv(1)
        return int(server.getsockname()[1])


def found_binary() -> str:
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("no redis-server on this machine: apt-get install redis-server")
    return binary


def eventually(holds: Callable[[], object], seconds: float = 120) -> None:
    """Wait until something holds; an error of the client counts as not yet."""
    deadline = time.monotonic() + seconds
    while True:
        with suppress(RedisError):
            if holds():
                return
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Server:
    """One redis-server process that can be stopped, killed and started again."""

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.socket = folder / "redis.sock"
        self.url = f"redis://127.0.0.1:{self.port}/0"
        settings = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "unixsocket": str(self.socket),
            "dir": str(folder),
            "save": "",
            "appendonly": "no",
            "repl-diskless-sync-delay": "0",
        }
        self._command = [
            found_binary(),
            *(w for k, v in settings.items() for w in (f"--{k}", v)),
            *options,
        ]
        self._log = folder / "redis.log"

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + 120
        with Redis(port=self.port, retry=Retry(NoBackoff(), 0)) as client:
            while True:
                assert self.process.poll() is None, self._log.read_text()
                assert time.monotonic() < deadline, self._log.read_text()
                try:
                    client.ping()
                except AuthenticationError:
                    return
                except ConnectionLostError:
                    time.sleep(0.01)
                else:
                    return

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@contextmanager
def running(folder: Path, *options: str) -> Iterator[Server]:
    server = Server(folder, *options)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextmanager
def running_cluster(folder: Path) -> Iterator[list[Server]]:
    """Three primaries, a third of the slots each."""
    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                running(
                    folder / str(number),
                    *("--cluster-enabled", "yes", "--cluster-port", str(free_port())),
                    *("--cluster-node-timeout", "2000", "--maxmemory", "512mb"),
                )
            )
            for number in range(3)
        ]
        clients = [stack.enter_context(Redis(port=server.port)) for server in servers]
        bounds = (0, 5461, 10923, 16384)
        for number, client in enumerate(clients):
            client.execute_command(
                "CLUSTER", "ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1
            )
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for server in servers[1:]:
            bus = Redis(port=server.port).config_get("cluster-port")["cluster-port"]
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", server.port, bus)
        for client in clients:
            # One for all attempts: a pool makes no more than a hundred.
            connection = client.connection_pool.make_connection()
            eventually(lambda c=connection: b"cluster_state:ok" in _cluster_info(c))
            eventually(lambda c=connection: b"cluster_known_nodes:3" in _cluster_info(c))
            connection.disconnect()
        yield servers


def _cluster_info(connection: Connection) -> bytes:
    connection.send_command("CLUSTER", "INFO")
    return bytes(connection.read_response())


@contextmanager
def running_sentinel(
    folder: Path, primary: Server, *lines: str, password: str | None = None
) -> Iterator[int]:
    """One Sentinel, which is quick to give a primary up; on which port?"""
    port = free_port()
    folder.mkdir(exist_ok=True)
    (folder / "sentinel.conf").write_text(
        "\n".join(
            (
                f"port {port}",
                "bind 127.0.0.1",
                f"dir {folder}",
                f"sentinel monitor caches 127.0.0.1 {primary.port} 1",
                "sentinel down-after-milliseconds caches 400",
                "sentinel failover-timeout caches 3000",
                *((f"requirepass {password}",) if password else ()),
                *lines,
            )
        )
    )
    with (folder / "sentinel.log").open("ab") as log:
        process = subprocess.Popen(
            [found_binary(), str(folder / "sentinel.conf"), "--sentinel"], stdout=log, stderr=log
        )
    try:
        with Redis(port=port, password=password, retry=Retry(NoBackoff(), 0)) as client:
            eventually(client.ping)
        yield port
    finally:
        process.kill()
        process.wait()
