"""Places to keep caches, one class for each kind of store."""

from pathlib import Path
from typing import Protocol

from acre_rag.store import CacheStore, DirectoryStore


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
