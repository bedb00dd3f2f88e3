"""When documents were used last, how long they live, and which of them stay for good."""

import threading
import time
from contextlib import suppress
from typing import Literal

from acre_rag.errors import StoreError
from acre_rag.store import lua
from acre_rag.store.publication import MAX_LINE_BYTES, published_version
from acre_rag.store.redis_layout import DocumentKeys, document_members
from acre_rag.store.redis_server import RedisServer

NOTE_SECONDS = 10.0
"""How often a process says, at most, that it reads a document."""

_REMEMBERED = 10_000
_ATTEMPTS = 20


class Uses:
    """Tells the server what this process reads: a document's life begins anew, and it stays."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._noted: dict[str, float] = {}
        self._lock = threading.Lock()

    def note(self, keys: DocumentKeys) -> None:
        """Say that a document was read. A server that cannot be told, as a replica, is not."""
        now = time.monotonic()
        with self._lock:
            if now - self._noted.get(keys.document, -NOTE_SECONDS) < NOTE_SECONDS:
                return
            if len(self._noted) >= _REMEMBERED:
                self._noted.clear()
            self._noted[keys.document] = now
        with suppress(StoreError):
            if self._server.run_script("write", lua.TOUCH, keys.parts(), retries=0):
                settle(self._server, keys)


def settle(
    server: RedisServer, keys: DocumentKeys, change: Literal["pin", "unpin", ""] = ""
) -> bool:
    """Let all of a document live from now on as it shall; is it published at all?

    Raises:
        StoreError: Its values change too fast, the server refused, or cannot be reached.
    """
    for _ in range(_ATTEMPTS):
        line: bytes = server.run(
            "read", lambda client: client.getrange(keys.manifest, 0, MAX_LINE_BYTES)
        )
        version = published_version(line)
        if version is None:
            return False
        members = document_members(server, keys)
        published = [member for member in members if member.startswith(f"{version}:")]
        answer = server.run_script(
            "write", lua.SETTLE, keys.parts(published), [f"{version} ", len(members), change]
        )
        if answer == 1:
            return True
    raise StoreError(
        f"the values of {keys.document} changed {_ATTEMPTS} times meanwhile; expected them to "
        "stay for a moment: wait for whoever writes the document"
    )
