"""Values from Redis straight into memory that is used again and again, with no copy between."""

import os
import socket
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np

from acre_rag.errors import StoreError
from acre_rag.store.redis_options import BufferKind
from acre_rag.store.redis_server import MAX_VALUE_BYTES, TIMEOUT_SECONDS, RedisServer, is_stale

Buffer: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.uint8]]"

_KEPT_BYTES = 2**28
_STEP_BYTES = 2**16
# Longer than the first line of an answer with a value; what follows it is copied, so: short.
_HEAD_BYTES = 32
_SLOWEST = 2**20
"""Bytes a second below which a server is no use: no pause is too long, but the whole."""


class Buffers:
    """Memory that returns here when nobody looks at it any more.

    Fresh memory costs more than it takes to receive a value: the system clears each page of it.

    Args:
        make: Gives memory of a size.
        keep_bytes: The most that is kept for later; 0 gives fresh memory each time.
    """

    def __init__(self, make: Callable[[int], Buffer], *, keep_bytes: int = _KEPT_BYTES) -> None:
        self._make = make
        self._keep_bytes = keep_bytes
        self._free: dict[int, list[Buffer]] = {}
        self._kept_bytes = 0
        self._lock = threading.Lock()

    def lease(self, size: int) -> memoryview:
        """Give memory of a size; it is used again once the view and all made of it are gone."""
        capacity = -(-size // _STEP_BYTES) * _STEP_BYTES
        with self._lock:
            free = self._free.get(capacity)
            memory = free.pop() if free else None
            if memory is not None:
                self._kept_bytes -= capacity
        if memory is None:
            memory = self._make(capacity)
        view = memory[:]
        weakref.finalize(view, self._take_back, memory).atexit = False
        return view.data[:size]

    def _take_back(self, memory: Buffer) -> None:
        # Called wherever the last look ends, even within `lease`: it must not wait for itself.
        if self._lock.acquire(blocking=False):
            try:
                if self._kept_bytes + memory.nbytes <= self._keep_bytes:
                    self._free.setdefault(memory.nbytes, []).append(memory)
                    self._kept_bytes += memory.nbytes
            finally:
                self._lock.release()


def buffers_of(kind: BufferKind) -> Buffers:
    """Make buffers of a kind.

    Raises:
        StoreError: The memory cannot be pinned, as there is no GPU.
    """
    if kind != "pinned":
        keep_bytes = 0 if kind == "fresh" else _KEPT_BYTES
        return Buffers(lambda size: np.empty(size, np.uint8), keep_bytes=keep_bytes)
    import torch

    if not torch.cuda.is_available():
        raise StoreError(
            "found buffers='pinned' on a machine without a GPU; expected one that copies from "
            "pinned memory: choose 'reused'"
        )
    return Buffers(lambda size: torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy())


class Receiver:
    """Fetches strings through connections of its own, made and logged in by the client.

    Args:
        server: Whose client makes connections.
        buffers: Where values go.
    """

    def __init__(self, server: RedisServer, buffers: Buffers) -> None:
        self._server = server
        self._buffers = buffers
        self._idle: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()
        self._process = os.getpid()
        self._lock = threading.Lock()

    def get(self, key: str) -> memoryview | None:
        """Fetch a string.

        Raises:
            StoreError: The server refused, or cannot be reached.
        """
        found, value = self._server.run("read", lambda client: self._fetch(client, key))
        if found:
            return value  # type: ignore[no-any-return]
        # An error, or what only the client knows to handle: it asks again.
        data = self._server.get(key)
        return None if data is None else memoryview(data)

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            for connections in self._idle.values():
                for connection in connections:
                    connection.disconnect()
            self._idle.clear()

    def _fetch(self, client: Any, key: str) -> tuple[bool, memoryview | None]:  # noqa: ANN401
        pool = _pool(client, key)
        with self._lock:
            if self._process != os.getpid():
                self._idle.clear()  # they belong to the process that this one was forked from
                self._process = os.getpid()
            idle = self._idle.setdefault(pool, [])
        connection = self._lively(idle)
        if connection is None:
            connection = pool.connection_class(**pool.connection_kwargs)
            connection.connect()
        understood = False
        # The client does not promise that it has a socket of this name.
        wire = getattr(connection, "_sock", None)
        if not isinstance(wire, socket.socket):
            return False, None
        try:
            connection.send_command("GET", key)
            patience = connection.socket_timeout or TIMEOUT_SECONDS
            understood, value = self._receive(wire, patience)
        finally:
            if understood:
                with self._lock:
                    idle.append(connection)
            else:
                with suppress(OSError):
                    connection.disconnect()
        return understood, value

    def _lively(self, idle: list[Any]) -> Any | None:  # noqa: ANN401
        """Take a connection that is still one: after a restart of the server none may be."""
        while True:
            with self._lock:
                connection = idle.pop() if idle else None
            if connection is None or not is_stale(connection):
                return connection
            with suppress(OSError):
                connection.disconnect()

    def _receive(self, wire: socket.socket, patience: float) -> tuple[bool, memoryview | None]:
        """Read one answer: was it a string or none, and which?

        Raises:
            OSError: The connection was lost; or the answer came in time piece by piece, but took
                more than `patience`, in seconds, and what its bytes take at the slowest.
        """
        started = time.monotonic()

        def check(received: int) -> None:
            seconds = time.monotonic() - started
            if seconds > patience + received / _SLOWEST:
                raise TimeoutError(f"{received} bytes of an answer after {seconds:.1f} s")

        head = b""
        while b"\r\n" not in head and len(head) < _HEAD_BYTES:
            piece = wire.recv(_HEAD_BYTES - len(head))
            if not piece:
                raise ConnectionResetError("the server closed the connection")
            head += piece
            check(len(head))
        line, _, rest = head.partition(b"\r\n")
        if line in (b"$-1", b"_"):
            return True, None
        if line[:1] != b"$" or not line[1:].isdigit() or int(line[1:]) > MAX_VALUE_BYTES:
            return False, None
        size = int(line[1:])
        view = self._buffers.lease(size + 2)  # a line break follows the value
        view[: len(rest)] = rest
        received = len(rest)
        while received < size + 2:
            count = wire.recv_into(view[received:])
            if not count:
                raise ConnectionResetError("the server closed the connection")
            received += count
            check(received)
        return True, view[:size]


def _pool(client: Any, key: str) -> Any:  # noqa: ANN401
    if hasattr(client, "get_node_from_key"):
        node = client.get_node_from_key(key)
        return client.get_redis_connection(node).connection_pool
    return client.connection_pool
