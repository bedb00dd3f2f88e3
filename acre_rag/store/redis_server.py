"""What is asked of a Redis server: few attempts, bounded waits, and the errors of a store."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from types import MappingProxyType
from typing import Any, TypeAlias

import redis
from redis.exceptions import (
    AuthenticationError,
    ClusterError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
)
from redis.exceptions import ConnectionError as ConnectionLostError
from redis.exceptions import TimeoutError as NoAnswerError

from acre_rag.errors import StoreError

Client: TypeAlias = "redis.Redis | redis.RedisCluster"

TIMEOUT_SECONDS = 5.0
RETRIES = 2

MAX_VALUE_BYTES = 512 * 2**20 - 1
"""Largest string that Redis takes, unless it was told otherwise."""

_BATCH = 1000
_LOST = (ConnectionLostError, NoAnswerError, ClusterError, RedisClusterException, OSError)
_FAILURES = (RedisError, RedisClusterException, OSError)
_LATE = ("an answer in time", "look whether the server is overloaded")
_REMEDIES: Mapping[type[Exception], tuple[str, str]] = MappingProxyType(
    {
        OutOfMemoryError: ("free memory", "raise maxmemory, or delete documents"),
        ReadOnlyError: ("a server that can be written", "name the primary"),
        NoPermissionError: ("permission to do so", "change the ACL of this user"),
        AuthenticationError: ("a valid user and password", "correct them in the URL"),
        TimeoutError: _LATE,
        OSError: ("a server that answers", "start it, or correct the URL"),
        ConnectionLostError: ("a server that answers", "start it, or correct the URL"),
        ClusterError: ("a cluster that answers", "start its servers, or correct the URL"),
        RedisClusterException: ("a cluster that answers", "start its servers, or correct the URL"),
        NoAnswerError: _LATE,
    }
)


class RedisServer:
    """A client whose errors are those of a store, and whose attempts are few.

    The client's own retries differ from one version to the next, and multiply those of its
    connections: they are off, and these are the only ones. Everything sent may be sent twice.

    Args:
        connect: Makes the client, when it is first needed; one of a cluster connects at once.
        url: The server, without secrets.
        retries: Further attempts where a connection was lost.
    """

    def __init__(self, connect: Callable[[], Client], url: str, *, retries: int) -> None:
        self._connect = connect
        self._url = url
        self._retries = retries
        self._made: Client | None = None
        self._lock = threading.Lock()

    def run(self, action: str, call: Callable[[Any], Any], *, retries: int | None = None) -> Any:  # noqa: ANN401  # redis-py has other types in each version
        """Call the client, once more where the connection was lost at once.

        Raises:
            StoreError: The server refused, or cannot be reached.
        """
        started = time.monotonic()
        attempt = 0
        while True:
            try:
                return call(self.client())
            except _FAILURES as error:
                lost = isinstance(error, _LOST) and not isinstance(error, AuthenticationError)
                late = time.monotonic() - started >= TIMEOUT_SECONDS
                if not lost or late or attempt == (self._retries if retries is None else retries):
                    raise self._explained(action, error) from error
            attempt += 1
            time.sleep(0.1 * attempt)

    def run_script(
        self,
        action: str,
        script: str,
        keys: Sequence[str],
        arguments: Sequence[str | bytes | int] = (),
        *,
        retries: int | None = None,
    ) -> int:
        """Run a script, which the server does at once, or not at all.

        Raises:
            StoreError: The server refused, or cannot be reached.
        """
        answer: int = self.run(
            action,
            lambda client: client.eval(script, len(keys), *keys, *arguments),
            retries=retries,
        )
        return answer

    def run_each(
        self,
        action: str,
        ask: Callable[[Any, Any], object],
        items: Iterable[Any],
        *,
        strict: bool = True,
    ) -> Iterator[Any]:
        """Put one command for each item into pipelines of bounded length; give the answers.

        Args:
            action: What is done, for messages.
            ask: Puts the command of one item into a pipeline.
            items: What to ask for, one after the other.
            strict: Raise what the server answers with an error; else it is given as an answer.

        Raises:
            StoreError: The server refused, or cannot be reached.
        """
        rest = iter(items)
        while batch := list(islice(rest, _BATCH)):

            def call(client: Any, batch: list[Any] = batch) -> list[Any]:  # noqa: ANN401
                with client.pipeline(transaction=False) as pipeline:
                    for item in batch:
                        ask(pipeline, item)
                    answers: list[Any] = pipeline.execute(raise_on_error=strict)
                # Pipelines of a cluster give lost connections for answers.
                for lost in (answer for answer in answers if isinstance(answer, _LOST)):
                    raise lost
                return answers

            yield from self.run(action, call)

    def get(self, key: str) -> bytes | None:
        """Fetch a string; a value of another type has no bytes.

        Raises:
            StoreError: The server refused, or cannot be reached.
        """
        try:
            data: bytes | None = self.run("read", lambda client: client.get(key))
        except StoreError as error:
            if str(error.__cause__).startswith("WRONGTYPE"):
                return b""
            raise
        return data

    def exists(self, key: str) -> bool:
        """Is the key there?

        Raises:
            StoreError: The server refused, or cannot be reached.
        """
        return bool(self.run("read", lambda client: client.exists(key)))

    def scan(self, pattern: str) -> set[bytes]:
        """Find keys step by step, on every server there is; none is held up.

        Raises:
            StoreError: The server refused, or cannot be reached.
        """
        found: set[bytes] = self.run(
            "list", lambda client: set(client.scan_iter(match=pattern, count=_BATCH))
        )
        return found

    def client(self) -> Client:
        """Give the client; made now where it was not."""
        with self._lock:
            if self._made is None:
                self._made = self._connect()
            return self._made

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            if self._made is None:
                return
            with suppress(*_FAILURES):
                self._made.close()
            if isinstance(self._made, redis.Redis):
                self._made.connection_pool.disconnect()

    def _explained(self, action: str, error: Exception) -> StoreError:
        other = ("success", "look at the server's log")
        if isinstance(error, MovedError) or str(error).startswith("MOVED"):  # before version 6
            other = ("a server of its own", "name the cluster, with redis+cluster://")
        kinds = (words for kind, words in _REMEDIES.items() if isinstance(error, kind))
        expected, remedy = next(kinds, other)
        return StoreError(
            f"cannot {action} in {self._url}: found {error}; expected {expected}: {remedy}"
        )


def is_stale(connection: Any) -> bool:  # noqa: ANN401
    """Has an idle connection been closed, or been sent what nobody asked for?"""
    try:
        return bool(connection.can_read(timeout=0))
    except _FAILURES:
        return True
