"""Places to keep caches, one class for each kind of store."""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Protocol

from redis import Redis, RedisCluster

from acre_rag.store import CacheStore, DirectoryStore, EncryptedStore, StoreKey
from acre_rag.store.key_mark import KEY_SPACE
from acre_rag.store.redis import RedisStore

KEY = "0f" * 32


class Place(Protocol):
    """Somewhere to keep caches, that can be opened by several stores and tampered with."""

    def open(self, *, lock_seconds: float = 0.2) -> CacheStore:
        """Open a store there, as another process would."""
        ...

    def values(self) -> list[str]:
        """Name everything kept there, in the place's own words."""
        ...

    def called(self, name: str) -> str:
        """Find what is kept there of one value, whichever document comes first."""
        return next(value for value in self.values() if value.endswith((name, _in_a_file(name))))

    def take(self, value: str) -> bytes: ...

    def put(self, value: str, data: bytes) -> None: ...

    def remove(self, value: str) -> None: ...

    def release(self) -> None:
        """Let go of the lock of a process that was killed, as time would."""
        ...


def _in_a_file(name: str) -> str:
    return name.replace(":", "-")


class DirectoryPlace(Place):
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


class EncryptedPlace(DirectoryPlace):
    """A directory whose store is encrypted."""

    def __init__(self, path: Path, digits: str = KEY) -> None:
        super().__init__(path)
        self.digits = digits

    def open(self, *, lock_seconds: float = 0.2) -> CacheStore:
        return EncryptedStore(super().open(lock_seconds=lock_seconds), StoreKey(self.digits))

    def values(self) -> list[str]:
        return [value for value in super().values() if KEY_SPACE not in value]


class RedisPlace(Place):
    """A namespace of a Redis server, or of a cluster."""

    def __init__(self, url: str, namespace: str = "acre") -> None:
        self.url = url
        self.namespace = namespace

    def open(self, *, lock_seconds: float = 0.2) -> CacheStore:
        return RedisStore(self.url, namespace=self.namespace, lock_seconds=lock_seconds)

    def values(self) -> list[str]:
        with self._client() as client:
            keys = [key.decode() for key in client.scan_iter(f"{self.namespace}:{{*")]
        return sorted(key for key in keys if not key.endswith((":lock", ":names", ":state")))

    def take(self, value: str) -> bytes:
        with self._client() as client:
            data = client.get(value)
        assert isinstance(data, bytes)
        return data

    def put(self, value: str, data: bytes) -> None:
        with self._client() as client:
            client.set(value, data)

    def remove(self, value: str) -> None:
        with self._client() as client:
            client.delete(value)

    def release(self) -> None:
        with self._client() as client:
            for key in client.scan_iter(f"{self.namespace}:*:lock"):
                client.delete(key)

    def _client(self) -> AbstractContextManager[Redis | RedisCluster]:
        if "cluster" in self.url:
            return nullcontext(cluster_client(self.url.replace("+cluster", "")))
        return Redis.from_url(self.url.partition("?")[0])


@cache
def cluster_client(url: str) -> RedisCluster:
    """Make one client for each cluster: it asks a lot before it is ready."""
    return RedisCluster.from_url(url)
