"""The right to write a document in Redis."""

import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from acre_rag.errors import StoreError
from acre_rag.store import lua
from acre_rag.store.redis_layout import DocumentKeys
from acre_rag.store.redis_server import RedisServer
from acre_rag.store.waiting import still_written

POLL_SECONDS = 0.05


class Lock:
    """The right to write a document, on a lease that a thread renews as long as it is held."""

    def __init__(
        self, server: RedisServer, keys: DocumentKeys, document_id: str, *, lease_seconds: float
    ) -> None:
        self.token = secrets.token_hex(16)
        self._server = server
        self._keys = keys
        self._document_id = document_id
        self._lease_seconds = lease_seconds
        self._lease = int(lease_seconds * 1000)
        self._ended = threading.Event()

    @contextmanager
    def held(self, *, wait_seconds: float) -> Iterator[None]:
        """Hold the lock until the context ends.

        Raises:
            StoreError: Another writer did not end in time, or the server cannot be reached.
        """
        deadline = time.monotonic() + wait_seconds
        while not self._run(lua.ACQUIRE, [], [self._lease]):
            if time.monotonic() >= deadline:
                raise still_written(self._document_id, wait_seconds)
            time.sleep(POLL_SECONDS)
        renewal = threading.Thread(target=self._renew, name="acre-lease", daemon=True)
        renewal.start()
        try:
            yield
        finally:
            self._ended.set()
            renewal.join()
            # A lock that cannot be given back expires.
            with suppress(StoreError):
                self._run(lua.RELEASE, [], [])

    def _run(self, script: str, keys: Sequence[str], arguments: Sequence[str | bytes | int]) -> int:
        """Run a script on behalf of this lock; 0 means that the lock is lost.

        Raises:
            StoreError: The server refused, or cannot be reached.
        """
        return self._server.run_script(
            "write", script, [self._keys.lock, *keys], [self.token, *arguments]
        )

    def run(self, script: str, keys: Sequence[str], arguments: Sequence[str | bytes | int]) -> int:
        """Run a script on behalf of this lock, or say what became of it.

        Raises:
            StoreError: The lock has ended or is lost, the server refused or cannot be reached.
        """
        if self._ended.is_set():
            raise StoreError(
                f"the writer of document {self._document_id!r} has ended; expected writes within "
                "its context: open another writer"
            )
        answer = self._run(script, keys, arguments)
        if answer == 0:
            raise StoreError(
                f"the lock of document {self._document_id!r} was lost; expected this process to "
                f"renew it every {self._lease_seconds:g} s: open another writer, it finds what "
                "was written"
            )
        return answer

    def _renew(self) -> None:
        while not self._ended.wait(self._lease_seconds / 4):
            # While the server is away there is nothing to lose that a write would not notice.
            with suppress(StoreError):
                if not self._run(lua.RENEW, [], [self._lease]):
                    return
