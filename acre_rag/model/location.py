"""Where a model is: in a directory, in the hub's cache, or on the hub; nothing is loaded yet."""

import os
from pathlib import Path

import platformdirs

from acre_rag.errors import ModelError

DEMO_MODEL = "smollm2-135m-instruct"
"""Name of the model that comes along."""

NO_ADAPTER = "none"
"""Stands for no landmark adapter, where one could be named: the training-free mode is wished."""

_NEITHER = "expected a directory that holds a model, or the name of one on the Hugging Face hub"


def cache_directory() -> Path:
    """Find the directory for what can be made again: `ACRE_CACHE`, else one of the user's."""
    return Path(os.environ.get("ACRE_CACHE") or platformdirs.user_cache_dir("acre_rag"))


def check_name(name: str) -> None:
    """Refuse a name that can be no model, at once and without the network.

    Raises:
        ModelError: It is a file, a directory without a model, or neither a path nor a hub's name.
    """
    from huggingface_hub.errors import HFValidationError

    if name and Path(name).is_dir():
        _check_directory(Path(name))
        return
    if name and Path(name).exists():
        raise ModelError(f"model {name!r} is a file; {_NEITHER}: name its directory")
    try:
        cached_files(name)
    except HFValidationError as error:
        raise ModelError(f"found no directory {name!r}; {_NEITHER}: check the path") from error


def cached_files(name: str) -> Path | None:
    """Find the directory of the hub's cache that holds a model's files, all of them or some."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(name, "config.json")
    return Path(config).parent if isinstance(config, str) else None


def check_hub(name: str) -> None:
    """Ask the hub once whether it has a model: a download would try again and again.

    Raises:
        ModelError: It has none of that name, or cannot be asked.
    """
    refusal = hub_refusal(name)
    if refusal is not None:
        raise ModelError(
            f"found no directory {name!r}, and no copy of such a model in the hub's cache; "
            f"{refusal}; {_NEITHER}: check the spelling and the network, and log in for a model "
            "that is private"
        )


def hub_refusal(name: str) -> str | None:
    """Ask the hub once whether it has a model; `None` where it has, else what is in the way."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        HfApi().model_info(name, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except RepositoryNotFoundError:
        return "the hub has no such model, or not for you"
    except Exception as error:  # noqa: BLE001  # its HTTP library, and so its errors, change
        return f"the hub cannot be asked ({first_line(error)})"
    return None


def first_line(error: BaseException) -> str:
    """Take the first sentence of an error of another library, or its name where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0].partition(". ")[0].strip(" .:") if lines else type(error).__name__


def _check_directory(path: Path) -> None:
    names = {file.name for file in path.iterdir()}
    tokenizer = any(
        name.startswith(("tokenizer.", "vocab", "tekken")) or name.endswith((".model", ".tiktoken"))
        for name in names
    )
    weights = any(name.endswith((".safetensors", ".bin")) for name in names)
    for there, what in (
        ("config.json" in names, "config.json"),
        (weights, "weights (model.safetensors)"),
        (tokenizer, "tokenizer (tokenizer.json)"),
    ):
        if not there:
            raise ModelError(
                f"directory {str(path)!r} has no {what}; expected a model with config.json, "
                "weights and tokenizer, as save_pretrained writes them: add what is missing, or "
                "name another directory"
            )
