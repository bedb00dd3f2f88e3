"""Values from Redis straight into memory of our own, the next ones asked for before they come."""

import os
import socket
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from typing import Any
from weakref import WeakKeyDictionary

from acre_rag.store.redis_buffers import Buffers
from acre_rag.store.redis_server import MAX_VALUE_BYTES, TIMEOUT_SECONDS, RedisServer, is_stale

_AHEAD = 8
_AHEAD_BYTES = 2**23
"""The most that a server is asked to hold ready, in values of the size of the last."""

# Longer than the first line of an answer with a value; what follows it is copied, so: short.
_HEAD_BYTES = 32
_SLOWEST = 2**20
"""Bytes a second below which a server is no use: no pause is too long, but the whole."""


class Receiver:
    """Fetches strings through connections of its own, made and logged in by the client.

    Args:
        server: Whose client makes connections.
        buffers: Where values go.
    """

    def __init__(self, server: RedisServer, buffers: Buffers) -> None:
        self._server = server
        self._buffers = buffers
        self._connections = _Connections()

    def get(self, key: str) -> memoryview | None:
        """Fetch a string.

        Raises:
            StoreError: The server refused, or cannot be reached.
        """
        with closing(self.get_each([key])) as values:
            return next(values)

    def get_each(self, keys: Sequence[str]) -> Generator[memoryview | None, None, None]:
        """Fetch strings of one hash slot in order, a few asked for ahead of the one that is given.

        Raises:
            StoreError: The server refused, or cannot be reached; no more are given.
        """
        answers = _Answers(keys, self._connections, self._buffers)
        with closing(answers):
            for key in keys:
                found, value = self._server.run("read", answers.take)
                if not found:
                    # An error, or what only the client knows to handle: it asks again.
                    data = self._server.get(key)
                    value = None if data is None else memoryview(data)
                yield value

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()


class _Connections:
    """Connections that wait for the next who asks, by the pool of the client that made them."""

    def __init__(self) -> None:
        self._idle: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()
        self._process = os.getpid()
        self._lock = threading.Lock()

    def borrow(self, pool: Any) -> Any:  # noqa: ANN401
        """Take one that is still alive: after a restart of the server none may be; or make one."""
        while True:
            with self._lock:
                if self._process != os.getpid():
                    self._idle.clear()  # they belong to the process that this one was forked from
                    self._process = os.getpid()
                idle = self._idle.get(pool)
                connection = idle.pop() if idle else None
            if connection is None:
                connection = pool.connection_class(**pool.connection_kwargs)
                connection.connect()
                return connection
            if not is_stale(connection):
                return connection
            with suppress(OSError):
                connection.disconnect()

    def give_back(self, pool: Any, connection: Any) -> None:  # noqa: ANN401
        """Keep one for the next who asks; nothing may be unanswered."""
        with self._lock:
            self._idle.setdefault(pool, []).append(connection)

    def close(self) -> None:
        """Close those that nobody uses."""
        with self._lock:
            for connections in self._idle.values():
                for connection in connections:
                    connection.disconnect()
            self._idle.clear()


class _Answers:
    """What a server answers to a line of questions, over one connection at a time.

    After a failure the connection is gone, and whoever goes on asks over another one, for what is
    still missing alone.

    Args:
        keys: Which strings, all of one hash slot.
        connections: Where one comes from.
        buffers: Where values go.
    """

    def __init__(self, keys: Sequence[str], connections: _Connections, buffers: Buffers) -> None:
        self._keys = keys
        self._connections = connections
        self._buffers = buffers
        self._taken = 0
        self._asked = 0
        self._size = _AHEAD_BYTES  # until one is known: a single one at first
        self._pool: Any = None
        self._connection: Any = None
        self._process = 0
        self._surplus = b""

    def take(self, client: Any) -> tuple[bool, memoryview | None]:  # noqa: ANN401
        """Receive the next answer: was it a string or none, and which?

        Raises:
            RedisError: The server cannot be reached, or refused the connection.
            OSError: The connection was lost, or was too slow.
        """
        understood = False
        try:
            self._connect(client)
            # The client does not promise that it has a socket of this name.
            wire = getattr(self._connection, "_sock", None)
            if isinstance(wire, socket.socket):
                self._ask()
                understood, value = self._receive(
                    wire, self._connection.socket_timeout or TIMEOUT_SECONDS
                )
        finally:
            if not understood:
                self._drop()
        self._taken += 1
        return (True, value) if understood else (False, None)

    def close(self) -> None:
        """Give the connection back; one on which answers are still to come is closed."""
        if self._connection is None:
            return
        if self._asked > self._taken or self._process != os.getpid():
            self._drop()
        else:
            self._connections.give_back(self._pool, self._connection)
            self._connection = None

    def _connect(self, client: Any) -> None:  # noqa: ANN401
        if self._connection is not None and self._process == os.getpid():
            return
        self._drop()  # it belongs to the process that this one was forked from
        self._process = os.getpid()
        self._pool = _pool(client, self._keys[self._taken])
        self._connection = self._connections.borrow(self._pool)
        self._asked = self._taken

    def _drop(self) -> None:
        if self._connection is not None:
            with suppress(OSError):
                self._connection.disconnect()
            self._connection = None
        self._surplus = b""

    def _ask(self) -> None:
        """Ask for as many more as may be under way, once half of them have come."""
        ahead = min(_AHEAD, max(1, _AHEAD_BYTES // max(1, self._size)))
        waiting = self._asked - self._taken
        if waiting > ahead // 2:
            return
        keys = self._keys[self._asked : self._taken + ahead]
        commands = self._connection.pack_commands([("GET", key) for key in keys])
        # A check of the connection's health would take an answer for its own.
        self._connection.send_packed_command(commands, check_health=not waiting)
        self._asked += len(keys)

    def _receive(self, wire: socket.socket, patience: float) -> tuple[bool, memoryview | None]:
        """Read one answer: was it a string or none, and which?

        Raises:
            OSError: The connection was lost; or the answer came in time piece by piece, but took
                more than `patience`, in seconds, and what its bytes take at the slowest.
        """
        started = time.monotonic()

        def check(count: int, received: int) -> None:
            if not count:
                raise ConnectionResetError("the server closed the connection")
            seconds = time.monotonic() - started
            if seconds > patience + received / _SLOWEST:
                raise TimeoutError(f"{received} bytes of an answer after {seconds:.1f} s")

        head = self._surplus
        while b"\r\n" not in head and len(head) < _HEAD_BYTES:
            piece = wire.recv(_HEAD_BYTES - len(head))
            head += piece
            check(len(piece), len(head))
        line, _, rest = head.partition(b"\r\n")
        if line in (b"$-1", b"_"):
            self._surplus = rest
            return True, None
        if line[:1] != b"$" or not line[1:].isdigit() or int(line[1:]) > MAX_VALUE_BYTES:
            return False, None
        size = int(line[1:])
        view = self._buffers.lease(size + 2)  # a line break follows the value
        received = min(len(rest), size + 2)
        view[:received] = rest[:received]
        self._surplus = rest[received:]
        while received < size + 2:
            count = wire.recv_into(view[received:])
            received += count
            check(count, received)
        self._size = size
        return True, view[:size]


def _pool(client: Any, key: str) -> Any:  # noqa: ANN401
    if hasattr(client, "get_node_from_key"):
        node = client.get_node_from_key(key)
        return client.get_redis_connection(node).connection_pool
    return client.connection_pool
