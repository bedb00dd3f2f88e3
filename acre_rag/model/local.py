"""A local model and its tokenizer, loaded once."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from pickle import UnpicklingError  # torch reads old weights so, tensors alone
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from acre_rag.errors import ModelError
from acre_rag.model.demo import demo_model_directory
from acre_rag.model.grouped_attention import use_grouped_attention
from acre_rag.model.location import (
    DEMO_MODEL,
    cached_files,
    check_hub,
    check_name,
    first_line,
    hub_refusal,
)
from acre_rag.model.replay import Replays

# What broken files make the libraries raise. A RuntimeError is left out: it may be the memory's.
_UNREADABLE = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, ImportError),
    *(SafetensorError, StrictDataclassError, UnpicklingError),
)

# All but cuDNN's: with that one put last, a token after 32,000 came 1.4 times as soon on an H100,
# and a new engine's first question 3 times.
_UNPLANNED = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModel:
    """A causal model of Hugging Face transformers, its tokenizer, and a name for messages.

    Attributes:
        model: In evaluation mode; nothing here ever changes it.
        tokenizer: A fast tokenizer.
        name: Hub name or path it came from.
        lock: Held while the model computes: one question at a time.
        replays: Captures steps of its answers, where that is sooner.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)
    replays: Replays = field(default_factory=Replays, repr=False, compare=False)

    @property
    def device(self) -> torch.device:
        """Device of the model's embeddings, where token ids go."""
        weight = self.model.get_input_embeddings().weight
        return torch.device(weight.device)  # type: ignore[arg-type]

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Hold the model for passes whose lengths hardly ever repeat: of questions and answers.

        No gradients, and on a GPU no attention that is planned anew for each length: planning
        costs the host more than such a pass costs the GPU.
        """
        steady = sdpa_kernel(_UNPLANNED) if self.device.type == "cuda" else nullcontext()
        with self.lock, torch.inference_mode(), steady:
            yield

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
            if target == "cpu":
                use_grouped_attention(model)
        return LocalModel(model=model.eval(), tokenizer=tokenizer, name=source)


def _find(
    source: str, settings: Mapping[str, object]
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Read a model from where it is nearest: a directory, the hub's cache, the hub."""
    if source == DEMO_MODEL:
        return _read(str(demo_model_directory()), settings)
    if Path(source).is_dir():
        return _read(source, settings)
    cached = cached_files(source)
    if cached is None:
        check_hub(source)
        return _read(source, settings)
    try:  # by its path: by its name, transformers would ask the hub all the same
        return _read(str(cached), settings)
    except ModelError as error:
        broken = error
    refusal = hub_refusal(source)
    if refusal is None:
        try:  # it may have what is missing; what is there is not fetched again
            return _read(source, settings)
        except ModelError as error:
            broken, refusal = error, "fetching what is missing does not help"
    raise ModelError(
        f"the copy of model {source!r} in the hub's cache cannot be loaded ({_reason(broken)}), "
        f"and {refusal}; expected a language model of a family that transformers knows, its files "
        f"whole: remove {cached.parents[1]} and fetch it again, or name another model"
    ) from broken


def _read(
    path: str, settings: Mapping[str, object]
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Read a model from a directory, or by its name from the hub."""
    # Code that comes with a model would run as ours; it is neither run nor asked about.
    where = {"local_files_only": Path(path).is_dir(), "trust_remote_code": False}
    again = "fetch it again, or name another model"
    with _explained(
        f"config.json of model {path!r}", f"one of a family that transformers knows: {again}"
    ):
        AutoConfig.from_pretrained(path, **where)
    with _explained(
        f"the tokenizer of model {path!r}",
        f"one that comes as tokenizer.json, whole: add that file, {again}",
    ):
        tokenizer = AutoTokenizer.from_pretrained(path, **where)
    with _explained(f"model {path!r}", f"a language model, its files whole: {again}"):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path,
            **where,
            **settings,
            ignore_mismatched_sizes=True,  # they are refused below
            output_loading_info=True,
        )
    model, loading = loaded
    _check_weights(path, loading)
    return tokenizer, model


@contextmanager
def _explained(found: str, expected: str) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        raise ModelError(
            f"{found} cannot be loaded ({first_line(error)}); expected {expected}"
        ) from error


def _check_weights(path: str, loading: Mapping[str, Any]) -> None:
    """Refuse a model that would compute with random numbers where its files have none for it."""
    lacking = {*loading["missing_keys"], *(key for key, *_ in loading["mismatched_keys"])}
    if lacking:
        raise ModelError(
            f"the weights of model {path!r} lack {len(lacking)} tensors of the shape that its "
            f"config.json says ({min(lacking)} is one); expected all of them: fetch it again, or "
            "name another model"
        )


def _reason(error: ModelError) -> str:
    """Take what another library said, or else what this one found."""
    if error.__cause__ is not None:
        return first_line(error.__cause__)
    return str(error).partition(";")[0]


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
