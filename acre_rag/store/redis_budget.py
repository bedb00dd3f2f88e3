"""How much of a Redis server documents take, and which of them go first."""

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from acre_rag.errors import StoreError
from acre_rag.store import lua
from acre_rag.store.redis_index import Index
from acre_rag.store.redis_layout import DocumentKeys, document_members
from acre_rag.store.redis_server import RedisServer

IN_USE_SECONDS = 60
"""How long a document is not evicted after it was read."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentUse:
    """What one document takes, and how it is used.

    Attributes:
        space: Hex digest of what makes caches of one model unfit for another.
        digest: Digest of the document id.
        bytes: Bytes of all its values, staged ones and the manifest included.
        used: When it was read or written last, in milliseconds since 1970; 0 where not known.
        pinned: It neither expires nor is evicted.
        published: It is there for readers.
    """

    space: str
    digest: str
    bytes: int
    used: int
    pinned: bool
    published: bool

    @property
    def document(self) -> str:
        """The document, as the index names it."""
        return f"{self.space}.{self.digest}"


class Budget:
    """Keeps the documents of a namespace within a number of bytes.

    Args:
        server: Where they are.
        index: Knows which there are.
        namespace: First part of every key.
        max_bytes: The most that all of them may take; `None` sets no limit.

    Attributes:
        index: The same.
    """

    def __init__(
        self, server: RedisServer, index: Index, namespace: str, *, max_bytes: int | None
    ) -> None:
        self._server = server
        self.index = index
        self._namespace = namespace
        self._max_bytes = max_bytes

    def uses(self) -> Iterator[DocumentUse]:
        """Go through all documents, step by step.

        Raises:
            StoreError: The server refused, or cannot be reached.
        """
        documents = self.index.documents()
        keys = [DocumentKeys(self._namespace, document) for document in documents]
        fields = ("bytes", "used", "pinned")
        states = self._server.run_each("list", lambda ask, k: ask.hmget(k.state, *fields), keys)
        there = self._server.run_each("list", lambda ask, k: ask.exists(k.manifest), keys)
        for document, (size, used, pinned), published in zip(documents, states, there, strict=True):
            if size is None and not published:
                continue  # gone, or expired
            space, _, digest = document.partition(".")
            yield DocumentUse(
                space=space,
                digest=digest,
                bytes=int(size or 0),
                used=int(used or 0),
                pinned=pinned is not None,
                published=bool(published),
            )

    def check(self, document: str, size: int) -> None:
        """Refuse a document that would not fit beside those that are pinned.

        Raises:
            StoreError: It would not; or the server refused, or cannot be reached.
        """
        if self._max_bytes is None:
            return
        pinned = sum(use.bytes for use in self.uses() if use.pinned and use.document != document)
        if pinned + size > self._max_bytes:
            raise StoreError(
                f"a document takes {size} bytes; expected {max(self._max_bytes - pinned, 0)} or "
                f"fewer, as max_bytes is {self._max_bytes} and pinned documents take {pinned}: "
                "raise max_bytes, unpin documents, or split this one"
            )

    def trim(self, keep: str) -> None:
        """Evict whole documents, those used longest ago first, until all fit.

        Left alone are the document `keep`, and those that are pinned, being written, or were read
        within a minute.

        Raises:
            StoreError: The server refused, or cannot be reached.
        """
        if self._max_bytes is None:
            return
        uses = sorted(self.uses(), key=lambda use: use.used)
        excess = sum(use.bytes for use in uses) - self._max_bytes
        for use in uses:
            if excess <= 0:
                return
            if use.document != keep and not use.pinned and self._evict(use):
                excess -= use.bytes
                _LOG.info("evicted document %s of %d bytes", use.document, use.bytes)
        if excess > 0:
            _LOG.warning(
                "documents take %d bytes more than max_bytes allows: all others are in use, and "
                "are looked at again when the next one is published",
                excess,
            )

    def _evict(self, use: DocumentUse) -> bool:
        keys = DocumentKeys(self._namespace, use.document)
        members = document_members(self._server, keys)
        arguments: list[str | bytes | int] = ["evict", use.used, IN_USE_SECONDS * 1000, *members]
        gone = self._server.run_script("delete", lua.DELETE, keys.parts(members), arguments)
        if gone < 1:
            return False
        with suppress(StoreError):
            self.index.leave(use.document)
        return True
