"""Load and save landmark adapters: safetensors beside a small JSON file.

Low-rank projections take PEFT's layout (`adapter_config.json`, `adapter_model.safetensors`), so
that PEFT's tools read them; what PEFT does not know (embedding, selection weights) lies beside it,
in `landmarks.safetensors` and `acre_config.json`. Full projections lie in the former too.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from acre_rag.errors import AdapterError
from acre_rag.model.landmarks import (
    FullProjection,
    LandmarkAdapter,
    LowRankProjection,
    Projection,
)

ADAPTER_FORMAT = 1
_PEFT_KEY = "base_model.model.model.layers.{layer}.self_attn.{name}_proj.lora_{part}.weight"
_OWN_TENSORS = ("embedding", "selection", "question_embeddings")
_FULL_KEY = "layers.{layer}.{name}.{part}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterCard:
    """What is known of an adapter besides its tensors.

    Attributes:
        base_model: Name of the model it was trained for.
        notes: Anything worth keeping: data, steps, licence.
    """

    base_model: str
    notes: Mapping[str, object]


def save_adapter(adapter: LandmarkAdapter, directory: Path, card: AdapterCard) -> None:
    """Write an adapter to a directory, which is made where it is missing.

    Raises:
        AdapterError: The directory cannot be written.
    """
    own = _own_tensors(adapter)
    peft: dict[str, Tensor] = {}
    for layer, projections in enumerate(adapter.projections):
        for name, projection in projections.items():
            target = peft if isinstance(projection, LowRankProjection) else own
            target.update(_tensors_of(layer, name, projection))
    config = {
        "format": ADAPTER_FORMAT,
        "base_model": card.base_model,
        "interval_tokens": adapter.interval_tokens,
        "layers": len(adapter.projections),
        "low_rank": bool(peft),
        "notes": dict(card.notes),
    }
    if adapter.refill_score is not None:
        config["refill_score"] = adapter.refill_score
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _save_tensors(own, directory / "landmarks.safetensors")
        if peft:
            _save_tensors(peft, directory / "adapter_model.safetensors")
            _write_json(_peft_config(adapter, card), directory / "adapter_config.json")
        _write_json(config, directory / "acre_config.json")
    except OSError as error:
        raise AdapterError(
            f"{directory} cannot be written ({error.strerror}); expected a directory with room"
        ) from error


def load_adapter(directory: Path) -> LandmarkAdapter:
    """Read an adapter from a directory.

    Raises:
        AdapterError: A file is missing or broken, or of another format.
    """
    if directory.is_file():
        raise AdapterError(
            f"{directory} is a file; expected the directory of a landmark adapter: name that"
        )
    config_file = directory / "acre_config.json"
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
        own = load_file(directory / "landmarks.safetensors")
        peft = load_file(directory / "adapter_model.safetensors") if config["low_rank"] else {}
        if config["format"] != ADAPTER_FORMAT:
            raise AdapterError(
                f"{config_file} has format {config['format']}; expected {ADAPTER_FORMAT}: "
                "train or convert the adapter again"
            )
        _check_known(own, directory / "landmarks.safetensors")
        projections = [_projections_of(layer, own, peft) for layer in range(config["layers"])]
        return LandmarkAdapter(
            embedding=own["embedding"],
            projections=projections,
            selection=own.get("selection"),
            interval_tokens=int(config["interval_tokens"]),
            refill_score=_score(config.get("refill_score")),
            question_embeddings=own.get("question_embeddings"),
        )
    except FileNotFoundError as error:
        raise AdapterError(
            f"{directory} has no {Path(error.filename or 'adapter file').name}; expected a "
            "landmark adapter made by acre train or acre convert: check the path"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise AdapterError(
            f"{directory} holds a broken adapter ({type(error).__name__}: {error}); "
            "expected the files that acre writes: copy or convert it again"
        ) from error


def read_notes(directory: Path) -> dict[str, object]:
    """Read what is kept of an adapter besides its tensors, once it is loaded."""
    config = json.loads((directory / "acre_config.json").read_text(encoding="utf-8"))
    return dict(config.get("notes", {}))


def _own_tensors(adapter: LandmarkAdapter) -> dict[str, Tensor]:
    """Name what an adapter has beside its projections."""
    tensors = {name: getattr(adapter, name) for name in _OWN_TENSORS}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def _check_known(own: Mapping[str, Tensor], path: Path) -> None:
    """Refuse tensors that would be left out: the adapter learned with them."""
    unknown = sorted(n for n in own if n not in _OWN_TENSORS and not n.startswith("layers."))
    if unknown:
        raise AdapterError(
            f"{path} holds {', '.join(unknown)}, which this version does not know; expected "
            f"{', '.join(sorted(_OWN_TENSORS))}: use the version that trained it, or train it again"
        )


def _score(value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, float) or not 0 < value <= 1:
        raise ValueError(f"refill_score is {value!r}, expected a number above 0, at most 1")
    return value


def _tensors_of(layer: int, name: str, projection: Projection) -> dict[str, Tensor]:
    if isinstance(projection, LowRankProjection):
        return {
            _PEFT_KEY.format(layer=layer, name=name, part="A"): projection.down,
            _PEFT_KEY.format(layer=layer, name=name, part="B"): projection.up,
        }
    tensors = {_FULL_KEY.format(layer=layer, name=name, part="weight"): projection.weight}
    if projection.bias is not None:
        tensors[_FULL_KEY.format(layer=layer, name=name, part="bias")] = projection.bias
    return tensors


def _projections_of(
    layer: int, own: Mapping[str, Tensor], peft: Mapping[str, Tensor]
) -> dict[str, Projection]:
    found: dict[str, Projection] = {}
    for name in "qkv":
        down = peft.get(_PEFT_KEY.format(layer=layer, name=name, part="A"))
        if down is not None:
            up = peft[_PEFT_KEY.format(layer=layer, name=name, part="B")]
            found[name] = LowRankProjection(down, up)
            continue
        weight = own[_FULL_KEY.format(layer=layer, name=name, part="weight")]
        found[name] = FullProjection(
            weight, own.get(_FULL_KEY.format(layer=layer, name=name, part="bias"))
        )
    return found


def _peft_config(adapter: LandmarkAdapter, card: AdapterCard) -> dict[str, object]:
    first = adapter.projections[0]["q"]
    rank = first.down.shape[0] if isinstance(first, LowRankProjection) else 0
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": card.base_model,
        "target_modules": ["q_proj", "k_proj", "v_proj"],
        "r": rank,
        "lora_alpha": rank,  # a scaling of 1: the tensors are the change itself
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }


def _save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, path)


def _write_json(value: Mapping[str, object], path: Path) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def adapter_tensors(adapter: LandmarkAdapter) -> dict[str, Tensor]:
    """Name every tensor of an adapter, for its digest."""
    tensors = _own_tensors(adapter)
    for layer, projections in enumerate(adapter.projections):
        for name, projection in projections.items():
            tensors.update(_tensors_of(layer, name, projection))
    return {name: tensor.detach().to(torch.float32) for name, tensor in tensors.items()}
