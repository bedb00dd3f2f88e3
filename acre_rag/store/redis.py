"""Caches in Redis: one string a value, all of one document in one hash slot.

<namespace>:{<space>.<digest of the document id>}:manifest         version and manifest, published
<namespace>:{<space>.<digest of the document id>}:<version>:l2:17  one value
<namespace>:{<space>.<digest of the document id>}:names            set of `<version>:l2:17`
<namespace>:{<space>.<digest of the document id>}:lock             token of the document's writer
<namespace>:documents                                              set of `<space>.<digest>`
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)
from redis.exceptions import ConnectionError as ConnectionLostError
from redis.exceptions import TimeoutError as NoAnswerError
from redis.retry import Retry

from acre_rag.errors import StoreError
from acre_rag.store import lua
from acre_rag.store.address import check_hex, check_name, document_digest
from acre_rag.store.protocol import DocumentWriter
from acre_rag.store.publication import published_manifest
from acre_rag.store.redis_index import Index
from acre_rag.store.redis_layout import DocumentKeys, document_members, read_value
from acre_rag.store.redis_lock import POLL_SECONDS, Lock, still_written
from acre_rag.store.redis_writer import RedisWriter

_TIMEOUT_SECONDS = 5.0
_RETRIES = 2
_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_LOST = (ConnectionLostError, NoAnswerError, OSError)
_REMEDIES: Mapping[type[Exception], tuple[str, str]] = MappingProxyType(
    {
        OutOfMemoryError: ("free memory", "raise maxmemory, or delete documents"),
        ReadOnlyError: ("a server that can be written", "name the primary"),
        NoPermissionError: ("permission to do so", "change the ACL of this user"),
        AuthenticationError: ("a valid user and password", "correct them in the URL"),
        OSError: ("a server that answers", "start it, or correct the URL"),
        ConnectionLostError: ("a server that answers", "start it, or correct the URL"),
        NoAnswerError: ("an answer in time", "look whether the server is overloaded"),
    }
)


class RedisStore:
    """Keeps caches in one Redis server of version 6 or later.

    Documents are published, replaced and deleted by scripts, which the server runs at once. Values
    that a writer leaves unpublished expire after a day. What survives a crash of the server is
    what its own persistence saves; a value that it evicts is `missing`.

    Args:
        server: A `redis://`, `rediss://` or `unix://` URL; or a client, which keeps its own
            timeouts and retries and is left open.
        namespace: First part of every key: letters, digits, dots, dashes and underscores.
        lock_seconds: How long to wait for another writer of a document.
        lease_seconds: How long a writer that has died keeps others out.

    Attributes:
        url: The server, without user, password and options.

    Raises:
        StoreError: The URL, the client or the namespace is of no use.
    """

    def __init__(
        self,
        server: "str | redis.Redis",
        *,
        namespace: str = "acre",
        lock_seconds: float = 30.0,
        lease_seconds: float = 15.0,
    ) -> None:
        if not _NAMESPACE.fullmatch(namespace):
            raise StoreError(
                f"found the namespace {namespace[:80]!r}; expected 1 to 64 letters, digits, "
                "dots, dashes or underscores: rename it"
            )
        self._namespace = namespace
        self._lock_seconds = lock_seconds
        self._lease_seconds = lease_seconds
        self._owned = isinstance(server, str)
        self._client = _connect(server) if isinstance(server, str) else server
        _check_client(self._client)
        self.url = _url(self._client)
        self._server = _Server(self._client, self.url, retries=_RETRIES if self._owned else 0)
        self._index = Index(self._server, namespace)

    def __repr__(self) -> str:
        return f"RedisStore({self.url!r}, namespace={self._namespace!r})"

    def load_manifest(self, space: str, document_id: str) -> bytes | None:
        """Read what was published of a document; `None` when nothing is."""
        data = self._server.get(self._keys(space, document_digest(document_id)).manifest)
        return None if data is None else published_manifest(data)

    def read(self, space: str, document_id: str, version: str, name: str) -> memoryview:
        """Fetch a value."""
        check_hex("version", version)
        check_name(name)
        keys = self._keys(space, document_digest(document_id))
        return read_value(self._server, keys, version, name, document_id)

    @contextmanager
    def writer(
        self, space: str, document_id: str, version: str, *, wait: bool = True
    ) -> Iterator[DocumentWriter]:
        """Lock a document for writing, until the context ends."""
        check_hex("version", version)
        keys = self._keys(space, document_digest(document_id))
        lock = Lock(self._server, keys, document_id, lease_seconds=self._lease_seconds)
        with lock.held(wait_seconds=self._lock_seconds if wait else 0):
            yield RedisWriter(
                self._server, keys, lock, self._index, version=version, document_id=document_id
            )

    def delete(self, space: str, document_id: str) -> bool:
        """Remove a document with all its values, staged ones too; was it published?"""
        keys = self._keys(space, document_digest(document_id))
        published = self._server.exists(keys.manifest)
        deadline = time.monotonic() + self._lock_seconds
        while (answer := self._delete(keys)) < 1:
            if time.monotonic() >= deadline:
                raise still_written(document_id, self._lock_seconds)
            if answer == 0:
                time.sleep(POLL_SECONDS)
        # The index may name documents that are gone.
        with suppress(StoreError):
            self._index.leave(keys.document)
        return published

    def manifests(self, space: str) -> Iterator[tuple[str, bytes]]:
        """Go through what is published in a space: digests of the document ids, and manifests."""
        check_hex("space", space)
        for found, digest in self._index.documents():
            if found == space:
                data = self._server.get(self._keys(space, digest).manifest)
                if data is not None:
                    yield digest, published_manifest(data)

    def spaces(self) -> list[str]:
        """List the spaces that hold a published document, in order."""
        return sorted(
            {
                space
                for space, digest in self._index.documents()
                if self._server.exists(self._keys(space, digest).manifest)
            }
        )

    def close(self) -> None:
        """Close the connections that this store itself has opened."""
        if self._owned:
            self._client.close()
            self._client.connection_pool.disconnect()

    def _keys(self, space: str, digest: str) -> DocumentKeys:
        check_hex("space", space)
        return DocumentKeys(self._namespace, f"{space}.{digest}")

    def _delete(self, keys: DocumentKeys) -> int:
        members = document_members(self._server, keys)
        parts = [keys.lock, keys.manifest, keys.names, *map(keys.value, members)]
        answer: int = self._server.run(
            "delete", lambda client: client.eval(lua.DELETE, len(parts), *parts, *members)
        )
        return answer


class _Server:
    """A client whose errors are those of a store, and whose attempts are few.

    The client's own retries differ from one version to the next, and multiply those of its
    connections: they are off, and these are the only ones. Everything sent may be sent twice.
    """

    def __init__(self, client: redis.Redis, url: str, *, retries: int) -> None:
        self._client = client
        self._url = url
        self._retries = retries

    def run(self, action: str, call: Callable[[redis.Redis], Any]) -> Any:  # noqa: ANN401
        """Call the client, once more where the connection was lost at once.

        Raises:
            StoreError: The server refused, or cannot be reached.
        """
        started = time.monotonic()
        attempt = 0
        while True:
            try:
                return call(self._client)
            except (RedisError, OSError) as error:
                lost = isinstance(error, _LOST) and not isinstance(error, AuthenticationError)
                late = time.monotonic() - started >= _TIMEOUT_SECONDS
                if not lost or late or attempt == self._retries:
                    raise self._explained(action, error) from error
            attempt += 1
            time.sleep(0.1 * attempt)

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

    def exists(self, *keys: str) -> bool:
        """Is any of the keys there?

        Raises:
            StoreError: The server refused, or cannot be reached.
        """
        return bool(self.run("read", lambda client: client.exists(*keys)))

    def _explained(self, action: str, error: Exception) -> StoreError:
        expected, remedy = next(
            (words for kind, words in _REMEDIES.items() if isinstance(error, kind)),
            ("success", "look at the server's log"),
        )
        return StoreError(
            f"cannot {action} in {self._url}: found {error}; expected {expected}: {remedy}"
        )


def _connect(url: str) -> redis.Redis:
    """Make a client of a URL, without connecting yet.

    Raises:
        StoreError: The URL is malformed.
    """
    try:
        client = redis.Redis.from_url(
            url,
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        # Options of the URL that do not exist come to light in the class of the connection.
        client.connection_pool.connection_class(**client.connection_pool.connection_kwargs)
    except (ValueError, TypeError, RedisError):
        # The words of the error, and those of its causes, may hold a password.
        pass
    else:
        return client
    raise StoreError(
        "found a malformed Redis URL; expected redis://user:password@host:port/number, or "
        "rediss:// or unix:///path, with known options: correct it, and escape what is special "
        "in the password"
    )


def _check_client(client: object) -> None:
    """Refuse a client that would change bytes or make promises.

    Raises:
        StoreError: The client is none of redis-py's, is asynchronous, or decodes answers.
    """
    if not isinstance(client, redis.Redis):
        raise StoreError(f"found a client of {type(client)}; expected redis.Redis: pass one")
    if client.connection_pool.connection_kwargs.get("decode_responses"):
        raise StoreError(
            "found a client that decodes answers; expected one that gives bytes: leave out "
            "decode_responses"
        )


def _url(client: redis.Redis) -> str:
    pool = client.connection_pool
    options = pool.connection_kwargs
    number = options.get("db", 0)
    if options.get("path"):
        return f"unix://{options['path']}?db={number}"
    host = options.get("host", "localhost")
    scheme = "rediss" if issubclass(pool.connection_class, redis.SSLConnection) else "redis"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{options.get('port', 6379)}/{number}"
