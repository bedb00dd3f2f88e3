"""From what a user calls a place to the store that is there."""

import os
import re
from pathlib import Path

from platformdirs import user_data_path

from acre_rag.errors import StoreOptionError
from acre_rag.store.directory import DirectoryStore
from acre_rag.store.encrypted import EncryptedStore
from acre_rag.store.key import StoreKey, read_key
from acre_rag.store.protocol import CacheStore

REDIS_SCHEMES = (
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)
# Two letters or more: `C:` is a drive.
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+)://")


def is_server(location: str) -> bool:
    """Tell whether a location is the URL of a server; else it is a directory, or nothing."""
    scheme = _SCHEME.match(location)
    return scheme is not None and scheme[1].lower() in REDIS_SCHEMES


def open_store(
    location: str | os.PathLike[str] | None = None, key: StoreKey | None = None
) -> CacheStore:
    """Open the store at a place.

    Args:
        location: Path of a directory, or a URL: `redis://`, `rediss://` (TLS), `unix://`,
            `redis+sentinel://` or `redis+cluster://`, as `RedisStore` takes it. `None` takes the
            environment's `ACRE_STORE`, else a directory of the user's own.
        key: What it is encrypted with; `None` takes the environment's `ACRE_STORE_KEY`, and
            without that leaves it as it is.

    Raises:
        StoreOptionError: The location, or an option in it, makes no sense.
        StoreError: The place is no store, or cannot be reached.
        ConfigError: What the environment has is no key.
    """
    key = key or read_key()
    store = open_plain_store(location)
    return store if key is None else EncryptedStore(store, key)


def default_location() -> str:
    """Say where caches are kept by default: in `ACRE_STORE`, else in a directory of the user."""
    return os.environ.get("ACRE_STORE") or str(user_data_path("acre_rag") / "store")


def open_plain_store(location: str | os.PathLike[str] | None = None) -> CacheStore:
    """Open the store at a place as `open_store` does, whatever key the environment has.

    Raises:
        StoreOptionError: The location, or an option in it, makes no sense.
        StoreError: The place is no store, or cannot be reached.
    """
    place = os.fspath(default_location() if location is None else location)
    if not place:
        raise StoreOptionError("found an empty store location; expected a path or a URL: name one")
    scheme = _SCHEME.match(place)
    if scheme is None:
        try:
            return DirectoryStore(Path(place).expanduser())
        except RuntimeError as error:
            raise StoreOptionError(
                f"found a store location in the home of a user who has none, {place!r:.300}; "
                "expected a path: write it out"
            ) from error
    if is_server(place):
        from acre_rag.store.redis import RedisStore

        return RedisStore(place)
    supported = ", ".join(f"{name}://" for name in REDIS_SCHEMES)
    # The rest of the URL may hold a password.
    raise StoreOptionError(
        f"found a store location that starts with {scheme[0]!r}; expected a path, or one of "
        f"{supported}: use one of these"
    )
