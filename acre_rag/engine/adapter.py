"""Which landmark adapter an engine reads with."""

import logging
from os import PathLike
from pathlib import Path

from acre_rag.errors import ConfigError
from acre_rag.model.adapter_files import load_adapter
from acre_rag.model.demo import demo_adapter_directory
from acre_rag.model.landmarks import LandmarkAdapter
from acre_rag.model.location import DEMO_MODEL, NO_ADAPTER

_LOG = logging.getLogger(__name__)


def choose_adapter(
    adapter: str | PathLike[str] | LandmarkAdapter | None, model_name: str, interval_tokens: int
) -> LandmarkAdapter | None:
    """Take the adapter that is named, or the one that ships for a model.

    Args:
        adapter: Directory, or the adapter itself; `"none"` for the training-free mode; `None`
            takes the one that ships, if one does.
        model_name: Name of the model.
        interval_tokens: What the settings say.

    Raises:
        AdapterError: The adapter is missing or broken.
        ConfigError: It was trained for another interval.
    """
    if adapter is None and model_name == DEMO_MODEL:
        adapter = demo_adapter_directory()
    if adapter is None:
        _LOG.warning(
            "%s has no landmark adapter: using the training-free mode, a weaker method "
            "(name an adapter, or 'none' to say that this is wished)",
            model_name,
        )
    if adapter is None or adapter == NO_ADAPTER:
        return None
    loaded = adapter if isinstance(adapter, LandmarkAdapter) else load_adapter(Path(adapter))
    if loaded.interval_tokens != interval_tokens:
        raise ConfigError(
            f"interval_tokens is {interval_tokens}; the adapter was trained for "
            f"{loaded.interval_tokens}: set it to that"
        )
    return loaded
