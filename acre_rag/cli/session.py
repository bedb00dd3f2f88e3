"""From options to what a command works with: a store, an engine."""

import gc
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from acre_rag.cli.failures import MisuseError, say
from acre_rag.cli.groups import ModelOptions
from acre_rag.cli.options import PlanPolicy, SelectionRule
from acre_rag.config import ACREConfig
from acre_rag.errors import ConfigError, DocumentNotFoundError, StoreError
from acre_rag.model.location import NO_ADAPTER

if TYPE_CHECKING:  # they take seconds to load, and `--help` needs none of them
    from acre_rag.engine import ACREEngine
    from acre_rag.model.landmarks import LandmarkAdapter
    from acre_rag.model.local import LocalModel
    from acre_rag.store import CacheStore


@contextmanager
def opened_store(location: str | None, key_file: Path | None = None) -> Iterator["CacheStore"]:
    """Open the store at a place with the key it needs, until the context ends.

    Raises:
        MisuseError: The place is no store, or there is no key where one was named.
        StoreError: A server cannot be reached.
    """
    from acre_rag.store import open_store, read_key

    with _closing(location, lambda: open_store(location, read_key(key_file))) as store:
        yield store


@contextmanager
def opened_as_named(location: str, key_file: Path | None) -> Iterator["CacheStore"]:
    """Open the store at a place as `opened_store` does, whatever key the environment has.

    Raises:
        MisuseError: The place is no store, or there is no key where one was named.
        StoreError: A server cannot be reached.
    """
    from acre_rag.store import EncryptedStore, open_plain_store, read_key

    def opened() -> "CacheStore":
        key = None if key_file is None else read_key(key_file)
        store = open_plain_store(location)
        return store if key is None else EncryptedStore(store, key)

    with _closing(location, opened) as store:
        yield store


@contextmanager
def _closing(location: str | None, opened: Callable[[], "CacheStore"]) -> Iterator["CacheStore"]:
    try:
        store = opened()
    except ConfigError as error:
        raise MisuseError(str(error)) from error
    except StoreError as error:
        from acre_rag.store.location import default_location, is_server

        if is_server(default_location() if location is None else location):
            raise
        raise MisuseError(str(error)) from error
    with closing(store):
        yield store


def check_stored(store: "CacheStore", ids: Sequence[str] | None) -> None:
    """Refuse documents that no model has read into a store; `None` wants any at all.

    Raises:
        DocumentNotFoundError: One of them is not there.
    """
    spaces = store.spaces()
    if not spaces:
        from acre_rag.store.missing import empty_store

        raise empty_store(store.url)
    missing = [
        name
        for name in dict.fromkeys(ids or ())
        if all(store.load_manifest(space, name) is None for space in spaces)
    ]
    if missing:
        raise not_stored(missing)


def not_stored(missing: Sequence[str]) -> DocumentNotFoundError:
    """Say of some documents that no model has read them into a store."""
    return DocumentNotFoundError(
        f"the store holds no {', '.join(map(repr, missing))}; expected an id that "
        "acre documents lists: check its spelling, and --store"
    )


def check_writable(store: "CacheStore") -> None:
    """Refuse a directory that cannot be written, or made; it is left as it is.

    Raises:
        StoreError: It, or the nearest directory above it that there is, takes no files.
    """
    from acre_rag.store.location import is_server

    if is_server(store.url):
        return
    place = Path(store.url)
    there = next(path for path in (place, *place.parents) if path.exists())
    try:
        # Permissions do not tell of what is read-only, or no disk at all.
        with tempfile.TemporaryDirectory(prefix=".acre-", dir=there):
            pass
    except OSError as error:
        found = "takes no files" if there.is_dir() else "is a file"
        raise StoreError(
            f"the store {place} cannot be written: {there} {found}; expected a directory of "
            "yours: name another with --store or ACRE_STORE"
        ) from error


@contextmanager
def opened_engine(
    store: "CacheStore",
    chosen: ModelOptions,
    selection: SelectionRule = SelectionRule.learned,
    policy: PlanPolicy = PlanPolicy.refill,
) -> Iterator["ACREEngine"]:
    """Load a model over a store; what is cheap to find wrong comes first.

    Raises:
        MisuseError: Options make no sense together.
        ACREError: Model or adapter cannot be loaded, or they do not fit one another.
    """
    with _collecting_later():
        from acre_rag.engine import ACREEngine

        local, adapter, config = loaded(chosen, selection, policy)
        engine = ACREEngine(local, adapter, store, config)
    if chosen.adapter is None and not engine.reader.has_landmarks:
        say(
            f"note: {local.name} has no landmark adapter; using the training-free mode "
            "(--adapter names one, --adapter none hides this note)"
        )
    with engine:
        yield engine


def loaded(
    chosen: ModelOptions,
    selection: SelectionRule = SelectionRule.learned,
    policy: PlanPolicy = PlanPolicy.refill,
) -> tuple["LocalModel", "LandmarkAdapter | str | None", ACREConfig]:
    """Load a model and the adapter that was named, and settle how they are used.

    Raises:
        MisuseError: Options make no sense together.
        ACREError: Model or adapter cannot be loaded.
    """
    from acre_rag.model.adapter_files import load_adapter
    from acre_rag.model.local import LocalModel

    named = chosen.adapter not in (None, NO_ADAPTER)
    adapter = load_adapter(Path(chosen.adapter or "")) if named else chosen.adapter
    config = _config(chosen, selection, policy, getattr(adapter, "interval_tokens", None))
    local = LocalModel.load(
        chosen.model, device=chosen.device, dtype=chosen.dtype and chosen.dtype.value
    )
    return local, adapter, config


def _config(
    chosen: ModelOptions,
    selection: SelectionRule,
    policy: PlanPolicy,
    interval_tokens: int | None,
) -> ACREConfig:
    defaults = ACREConfig()
    window = chosen.window_tokens or defaults.window_tokens
    try:
        return ACREConfig(
            selection=selection.value,
            policy=policy.value,
            stored_dtype=chosen.stored.value if chosen.stored else defaults.stored_dtype,
            interval_tokens=interval_tokens or defaults.interval_tokens,
            window_tokens=window,
            segment_tokens=max(defaults.segment_tokens // window, 1) * window,
        )
    except ConfigError as error:
        raise MisuseError(str(error)) from error


@contextmanager
def _collecting_later() -> Iterator[None]:
    """Look for no garbage meanwhile: what libraries and a model bring when they load is to stay.

    Searching it again and again takes a tenth of the time that loading takes.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
