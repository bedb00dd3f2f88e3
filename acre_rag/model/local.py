"""A local model and its tokenizer, loaded once."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from acre_rag.errors import ModelError
from acre_rag.model.demo import demo_model_directory
from acre_rag.model.location import DEMO_MODEL, check_hub, check_name, first_line, is_cached

_UNREADABLE = (OSError, ValueError, KeyError, ImportError, SafetensorError)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModel:
    """A causal model of Hugging Face transformers, its tokenizer, and a name for messages.

    Attributes:
        model: In evaluation mode; nothing here ever changes it.
        tokenizer: A fast tokenizer.
        name: Hub name or path it came from.
        lock: Held while the model computes: one question at a time.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)

    @property
    def device(self) -> torch.device:
        """Device of the model's embeddings, where token ids go."""
        weight = self.model.get_input_embeddings().weight
        return torch.device(weight.device)  # type: ignore[arg-type]

    @staticmethod
    def load(
        name: str | PathLike[str] | None = None,
        *,
        device: str | None = None,
        dtype: str | None = None,
        device_map: str | None = None,
    ) -> "LocalModel":
        """Load a model by hub name or path.

        Args:
            name: `None` takes the demo model, SmolLM2-135M-Instruct.
            device: `cpu`, `cuda`, `cuda:1`...; `None` takes the GPU where there is one.
            dtype: `float32`, `bfloat16` or `float16`; `None` takes bfloat16 where the device
                computes in it natively, else float32.
            device_map: Spreads layers over several GPUs, in transformers' words (`auto`).

        Raises:
            ModelError: There is no such model, or it cannot be loaded.
        """
        source = fspath(name) if name is not None else DEMO_MODEL
        if source != DEMO_MODEL:
            check_name(source)
        target = device or ("cuda" if torch.cuda.is_available() else "cpu")
        _check_device(target)
        settings = {"dtype": _dtype(dtype, target), "device_map": device_map}
        progress = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            tokenizer, model = _find(source, settings)
        finally:
            if progress:
                logging.enable_progress_bar()
        if device_map is None:
            model.to(target)  # type: ignore[arg-type]  # its wrapper hides the module's own types
        return LocalModel(model=model.eval(), tokenizer=tokenizer, name=source)


def _find(
    source: str, settings: Mapping[str, object]
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Read a model from where it is nearest: a directory, the hub's cache, the hub."""
    if source == DEMO_MODEL:
        return _read(str(demo_model_directory()), settings, local_only=True)
    if Path(source).is_dir():
        return _read(source, settings, local_only=True)
    if is_cached(source):
        try:
            return _read(source, settings, local_only=True)
        except ModelError:
            pass  # the cache may hold a part of it
    check_hub(source)
    return _read(source, settings, local_only=False)


def _read(
    path: str, settings: Mapping[str, object], *, local_only: bool
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    # Code that comes with a model would run as ours; it is neither run nor asked about.
    where = {"local_files_only": local_only, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **where)
    except _UNREADABLE as error:
        raise ModelError(
            f"the tokenizer of model {path!r} cannot be loaded ({first_line(error)}); expected one "
            "that comes as tokenizer.json: add that file, or name another model"
        ) from error
    try:
        model = AutoModelForCausalLM.from_pretrained(path, **where, **settings)
    except _UNREADABLE as error:
        raise ModelError(
            f"model {path!r} cannot be loaded ({first_line(error)}); expected a language model of "
            "a family that transformers knows, its files whole: fetch it again, or name another"
        ) from error
    return tokenizer, model


def _check_device(name: str) -> None:
    try:
        torch.empty(0, device=name)
    # A build without CUDA asserts that it is there.
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"device {name!r} cannot be used ({str(error).splitlines()[0]}); expected cpu, or a "
            "GPU that PyTorch sees: name another"
        ) from error


def _dtype(name: str | None, device: str) -> torch.dtype:
    if name is None:
        return torch.bfloat16 if _computes_bfloat16(device) else torch.float32
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in known:
        raise ModelError(f"dtype is {name!r}; expected one of {', '.join(known)}: choose one")
    return known[name]


def _computes_bfloat16(device: str) -> bool:
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device != "cpu":
        return False
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
