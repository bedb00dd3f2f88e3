"""Checkpoints: parameters, optimizer moments and the step, without pickle.

A step's batch depends on the seed and the step alone, so these three continue a run exactly.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from acre_rag.errors import AdapterError

_FILE = "checkpoint.safetensors"


class HasParameters(Protocol):
    """A module, of which nothing but its parameters matters."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Give all parameters with their names."""
        ...


def save_checkpoint(
    directory: Path, module: HasParameters, optimizer: Optimizer, step: int, run: dict[str, object]
) -> None:
    """Write a checkpoint in one step: a half-written one never replaces a good one.

    Args:
        directory: Made where it is missing.
        module: Owner of the parameters.
        optimizer: AdamW, whose moments are kept.
        step: Steps that are done.
        run: Settings of the run, for the reader.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {f"parameter.{name}": value.detach() for name, value in module.named_parameters()}
    for name, parameter in module.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{key}.{name}"] = value.detach()
    tensors = {name: value.cpu().contiguous() for name, value in tensors.items()}
    partial = directory / f"{_FILE}.partial"
    save_file(tensors, partial, metadata={"step": str(step), "run": json.dumps(run)})
    partial.replace(directory / _FILE)


def load_checkpoint(directory: Path, module: HasParameters, optimizer: Optimizer) -> int:
    """Continue from a checkpoint; returns the steps that are done, 0 where there is none.

    Raises:
        AdapterError: The checkpoint is broken, or of another run.
    """
    path = directory / _FILE
    if not path.exists():
        return 0
    try:
        tensors = load_file(path)
        for name, parameter in module.named_parameters():
            parameter.data.copy_(tensors[f"parameter.{name}"])
            moments = _moments(tensors, name, parameter)
            if moments:
                optimizer.state[parameter] = moments
        return int(_metadata(path)["step"])
    except (OSError, KeyError, RuntimeError, ValueError, SafetensorError) as error:
        raise AdapterError(
            f"{path} is not a checkpoint of this run ({type(error).__name__}: {error}); expected "
            f"one with the same model and rank: remove it to start anew"
        ) from error


def _moments(tensors: dict[str, Tensor], name: str, parameter: Tensor) -> dict[str, Tensor]:
    found = {}
    for key in ("step", "exp_avg", "exp_avg_sq"):
        value = tensors.get(f"{key}.{name}")
        if value is not None:
            found[key] = value if key == "step" else value.to(parameter.device)
    return found


def _metadata(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(min(size, path.stat().st_size)))
    metadata: dict[str, str] = header["__metadata__"]
    return metadata
