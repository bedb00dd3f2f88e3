"""From options to what a command works with: a store, an engine."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from acre_rag.cli.failures import MisuseError, say
from acre_rag.cli.options import NumberType, SelectionRule, StoredForm
from acre_rag.config import ACREConfig
from acre_rag.errors import ConfigError, StoreError

if TYPE_CHECKING:  # they take seconds to load, and `--help` needs none of them
    from acre_rag.engine import ACREEngine
    from acre_rag.store import CacheStore

NO_ADAPTER = "none"
_SERVERS = ("redis://", "rediss://", "unix://", "redis+", "rediss+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What the options say about store and model.

    Attributes:
        store: Path or URL; `None` takes the default.
        model: Hub name or path; `None` takes the demo model.
        adapter: Directory, or `none`; `None` takes the adapter that ships for the model.
        device: Where to compute; `None` chooses.
        dtype: What to compute in; `None` chooses.
        selection: How landmarks are scored.
        stored: Number type of what is stored.
        key_file: File with the store's key; `None` takes the environment's.
    """

    store: str | None
    model: str | None
    adapter: str | None
    device: str | None
    dtype: NumberType | None
    selection: SelectionRule = SelectionRule.learned
    stored: StoredForm = StoredForm.bfloat16
    key_file: Path | None = None


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
        if location is not None and location.lower().startswith(_SERVERS):
            raise
        raise MisuseError(str(error)) from error
    with closing(store):
        yield store


@contextmanager
def opened_engine(setup: Setup) -> Iterator["ACREEngine"]:
    """Open store and model, until the context ends; what is cheap to find wrong comes first.

    Raises:
        ACREError: One of them cannot be opened, or they do not fit one another.
    """
    with opened_store(setup.store, setup.key_file) as store:
        from acre_rag.engine import ACREEngine
        from acre_rag.model.adapter_files import load_adapter
        from acre_rag.model.local import LocalModel

        chosen = setup.adapter not in (None, NO_ADAPTER)
        adapter = load_adapter(Path(setup.adapter or "")) if chosen else setup.adapter
        local = LocalModel.load(
            setup.model, device=setup.device, dtype=setup.dtype and setup.dtype.value
        )
        defaults = ACREConfig()
        config = ACREConfig(
            selection=setup.selection.value,
            stored_dtype=setup.stored.value,
            interval_tokens=getattr(adapter, "interval_tokens", defaults.interval_tokens),
        )
        engine = ACREEngine(local, adapter, store, config)
        if setup.adapter is None and not engine.reader.has_landmarks:
            say(
                f"note: {local.name} has no landmark adapter; using the training-free mode "
                "(--adapter names one, --adapter none hides this note)"
            )
        yield engine
