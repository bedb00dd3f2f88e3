"""Places to keep caches, one class for each kind of store."""

from pathlib import Path
from typing import Protocol

from redis import Redis

from acre_rag.store import CacheStore, DirectoryStore
from acre_rag.store.redis import RedisStore


class Place(Protocol):
    """Somewhere to keep caches, that can be opened by several stores and tampered with."""

    def open(self, *, lock_seconds: float = 0.2) -> CacheStore:
        """Open a store there, as another process would."""
        ...

    def values(self) -> list[str]:
        """Name everything kept there, in the place's own words."""
        ...

    def take(self, value: str) -> bytes: ...

    def put(self, value: str, data: bytes) -> None: ...

    def remove(self, value: str) -> None: ...

    def release(self) -> None:
        """Let go of the lock of a process that was killed, as time would."""
        ...


class DirectoryPlace:
    """A directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self, *, lock_seconds: float = 0.2) -> CacheStore:
        return DirectoryStore(self.path, lock_seconds=lock_seconds)

    def values(self) -> list[str]:
        files = [path for path in self.path.rglob("*") if path.is_file()]
        return sorted(str(path) for path in files if path.parent.name != "locks")

    def take(self, value: str) -> bytes:
        return Path(value).read_bytes()

    def put(self, value: str, data: bytes) -> None:
        # Aside and renamed: a file that is cut short while mapped would kill the reader.
        Path(f"{value}.new").write_bytes(data)
        Path(f"{value}.new").replace(value)

    def remove(self, value: str) -> None:
        Path(value).unlink()

    def release(self) -> None:
        """The operating system has done it."""


class RedisPlace:
    """A namespace of a Redis server."""

    def __init__(self, url: str, namespace: str = "acre") -> None:
        self.url = url
        self.namespace = namespace

    def open(self, *, lock_seconds: float = 0.2) -> CacheStore:
        return RedisStore(self.url, namespace=self.namespace, lock_seconds=lock_seconds)

    def values(self) -> list[str]:
        with Redis.from_url(self.url) as client:
            keys = [key.decode() for key in client.keys(f"{self.namespace}:{{*")]
        return sorted(key for key in keys if not key.endswith((":lock", ":names", ":state")))

    def take(self, value: str) -> bytes:
        with Redis.from_url(self.url) as client:
            data = client.get(value)
        assert isinstance(data, bytes)
        return data

    def put(self, value: str, data: bytes) -> None:
        with Redis.from_url(self.url) as client:
            client.set(value, data)

    def remove(self, value: str) -> None:
        with Redis.from_url(self.url) as client:
            client.delete(value)

    def release(self) -> None:
        with Redis.from_url(self.url) as client:
            for key in client.keys("*:lock"):
                client.delete(key)
