"""Caches in Redis: one string a value, all of one document in one hash slot.

<namespace>:{<space>.<digest of the document id>}:manifest         version and manifest, published
<namespace>:{<space>.<digest of the document id>}:<version>:l2:17  one value
<namespace>:{<space>.<digest of the document id>}:names            hash, `<version>:l2:17` to bytes
<namespace>:{<space>.<digest of the document id>}:state            hash: bytes, used, life, pinned
<namespace>:{<space>.<digest of the document id>}:lock             token of the document's writer
<namespace>:documents                                              set of `<space>.<digest>`
"""

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial

from acre_rag.errors import DamagedCacheError, StoreError
from acre_rag.store import lua
from acre_rag.store.address import check_hex, document_digest
from acre_rag.store.damage import or_damage
from acre_rag.store.protocol import ByteRun, DocumentWriter
from acre_rag.store.publication import published_manifest
from acre_rag.store.redis_budget import Budget, DocumentUse
from acre_rag.store.redis_buffers import buffers_of
from acre_rag.store.redis_connect import target_of_client, target_of_url
from acre_rag.store.redis_index import Index
from acre_rag.store.redis_layout import (
    DocumentKeys,
    document_members,
    found_value,
    read_value,
    value_key,
)
from acre_rag.store.redis_lock import POLL_SECONDS, Lock
from acre_rag.store.redis_options import DEFAULT_NAMESPACE, BufferKind, RedisOptions, split_options
from acre_rag.store.redis_receiver import Receiver
from acre_rag.store.redis_server import RETRIES, Client, RedisServer
from acre_rag.store.redis_use import Uses, settle
from acre_rag.store.redis_writer import RedisWriter
from acre_rag.store.waiting import still_written


class RedisStore:
    """Keeps caches in Redis, version 6 or later: one server, a cluster, or behind Sentinels.

    Documents are published, replaced, evicted and deleted by scripts, which the server runs at
    once. Values that a writer leaves unpublished expire after a day. What survives a crash of the
    server is what its own persistence saves; a value that it evicts is `missing`.

    Args:
        server: A URL: `redis://`, `rediss://` (TLS), `unix://`, `redis+sentinel://`,
            `redis+cluster://`; it may hold the options below, as `?namespace=team&max_bytes=20gb`.
            Or a client, which keeps its own timeouts and retries and is left open.
        namespace: First part of every key, by default `acre`: letters, digits, dots, dashes and
            underscores. Stores of different namespaces know nothing of each other.
        ttl_seconds: How long documents that are written through this store stay after they were
            read last, whoever read them; `None` keeps them for good.
        max_bytes: The most that all documents of the namespace may take. When one is published
            that goes beyond it, others are evicted, those used longest ago first.
        buffers: Where values are received: in `fresh` memory, which is the default, in memory
            that is `reused` as soon as nobody looks at it, which is faster, or that is also
            `pinned`, for a GPU. A given client receives by itself unless this is said.
        lock_seconds: How long to wait for another writer of a document.
        lease_seconds: How long a writer that has died keeps others out.

    Attributes:
        url: The server and the namespace, without user, password and other options.

    Raises:
        StoreError: The URL, the client or an option is of no use.
    """

    def __init__(
        self,
        server: "str | Client",
        *,
        namespace: str | None = None,
        ttl_seconds: float | None = None,
        max_bytes: int | None = None,
        buffers: BufferKind | None = None,
        lock_seconds: float = 30.0,
        lease_seconds: float = 15.0,
    ) -> None:
        self._owned = isinstance(server, str)
        url, options = split_options(server) if isinstance(server, str) else ("", {"buffers": None})
        given = (namespace, ttl_seconds, max_bytes, buffers)
        names = ("namespace", "ttl_seconds", "max_bytes", "buffers")
        options |= {n: value for n, value in zip(names, given, strict=True) if value is not None}
        self._options = RedisOptions(**options)
        self._lock_seconds = lock_seconds
        self._lease_seconds = lease_seconds
        target = target_of_url(url) if self._owned else target_of_client(server)
        self.url = _with_namespace(target.url, self._options.namespace)
        self._server = RedisServer(
            target.connect, target.url, retries=RETRIES if self._owned else 0
        )
        self._index = Index(self._server, self._options.namespace)
        kind = self._options.buffers
        self._receiver = None if kind is None else Receiver(self._server, buffers_of(kind))
        self._get = self._server.get if self._receiver is None else self._receiver.get
        self._uses = Uses(self._server)
        self._budget = Budget(
            self._server, self._index, self._options.namespace, max_bytes=self._options.max_bytes
        )

    def __repr__(self) -> str:
        return f"RedisStore({self.url!r})"

    def load_manifest(self, space: str, document_id: str) -> bytes | None:
        """Read what was published of a document; `None` when nothing is."""
        keys = self._keys(space, document_digest(document_id))
        data = self._get(keys.manifest)
        if data is None:
            return None
        self._uses.note(keys)
        return published_manifest(bytes(data))

    def read(self, space: str, document_id: str, version: str, name: str) -> memoryview:
        """Fetch a value."""
        check_hex("version", version)
        keys = self._keys(space, document_digest(document_id))
        value = read_value(self._get, keys, version, name, document_id)
        self._uses.note(keys)
        return value

    def read_each(
        self, space: str, document_id: str, version: str, names: Sequence[str]
    ) -> Generator[memoryview | DamagedCacheError, None, None]:
        """Fetch values one after the other, the next ones already asked for."""
        check_hex("version", version)
        keys = self._keys(space, document_digest(document_id))
        places = [value_key(keys, version, name) for name in names]
        with closing(self._get_each(places)) as values:
            for name, place, value in zip(names, places, values, strict=True):
                if value is not None:
                    self._uses.note(keys)
                yield or_damage(partial(found_value, value, place, name, document_id))

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
                self._server,
                keys,
                lock,
                self._budget,
                version=version,
                document_id=document_id,
                ttl_seconds=self._options.ttl_seconds,
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

    def pin(self, space: str, document_id: str, *, pinned: bool = True) -> bool:
        """Keep a document for good, neither expired nor evicted, or no longer; is it there?"""
        keys = self._keys(space, document_digest(document_id))
        return settle(self._server, keys, "pin" if pinned else "unpin")

    def manifests(self, space: str) -> Iterator[tuple[str, bytes]]:
        """Go through what is published in a space: digests of the document ids, and manifests."""
        check_hex("space", space)
        for document in self._index.documents():
            found, _, digest = document.partition(".")
            if found == space:
                data = self._get(self._keys(space, digest).manifest)
                if data is not None:
                    yield digest, published_manifest(bytes(data))

    def spaces(self) -> list[str]:
        """List the spaces that hold a published document, in order."""
        return sorted({use.space for use in self._budget.uses() if use.published})

    def uses(self) -> Iterator[DocumentUse]:
        """Go through all documents of the namespace: what they take, when they were used last.

        Raises:
            StoreError: The server refused, or cannot be reached.
        """
        return self._budget.uses()

    def close(self) -> None:
        """Close the connections that this store itself has opened."""
        if self._receiver is not None:
            self._receiver.close()
        if self._owned:
            self._server.close()

    def _get_each(self, keys: Sequence[str]) -> Generator[ByteRun | None, None, None]:
        if self._receiver is None:
            return (self._server.get(key) for key in keys)
        return self._receiver.get_each(keys)

    def _keys(self, space: str, digest: str) -> DocumentKeys:
        check_hex("space", space)
        return DocumentKeys(self._options.namespace, f"{space}.{digest}")

    def _delete(self, keys: DocumentKeys) -> int:
        members = document_members(self._server, keys)
        return self._server.run_script(
            "delete", lua.DELETE, keys.parts(members), ["", "", "", *members]
        )


def _with_namespace(url: str, namespace: str) -> str:
    if namespace == DEFAULT_NAMESPACE:
        return url
    return f"{url}{'&' if '?' in url else '?'}namespace={namespace}"
