"""Where a model is: in a directory, in the hub's cache, or on the hub; nothing is loaded yet."""

from pathlib import Path

from acre_rag.errors import ModelError

DEMO_MODEL = "smollm2-135m-instruct"
"""Name of the model that comes along."""

_NEITHER = "expected a directory that holds a model, or the name of one on the Hugging Face hub"


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
        is_cached(name)
    except HFValidationError as error:
        raise ModelError(f"found no directory {name!r}; {_NEITHER}: check the path") from error


def is_cached(name: str) -> bool:
    """Tell whether the hub's cache on this machine holds a model, whole or in part."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, "config.json"), str)


def check_hub(name: str) -> None:
    """Ask the hub once whether it has a model: a download would try again and again.

    Raises:
        ModelError: It has none of that name, or cannot be asked.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        HfApi().model_info(name, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"found no directory {name!r}, and the hub has no such model, or not for you; "
            f"{_NEITHER}: check the spelling, and log in for one that is private"
        ) from error
    except Exception as error:  # its HTTP library, and so its errors, change
        raise ModelError(
            f"found no directory {name!r}, and no whole copy of such a model in the hub's cache; "
            f"the hub cannot be asked ({first_line(error)}); {_NEITHER}: check the name, or the "
            "network"
        ) from error


def first_line(error: Exception) -> str:
    """Take the first line of an error of another library, or its name where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


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
