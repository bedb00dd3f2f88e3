"""Convert a checkpoint of ACRE's authors into a landmark adapter.

Their state dict keeps the frozen model beside `acre_embed_tokens` (one row) and, in every layer,
`acre_q_proj`, `acre_k_proj`, `acre_v_proj`: whole projections, not low-rank changes. They were
trained for several intervals at once, and without selection weights: the published rule chooses.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from acre_rag.errors import AdapterError
from acre_rag.model.adapter_files import AdapterCard, save_adapter
from acre_rag.model.landmarks import FullProjection, LandmarkAdapter

_PROJECTION = re.compile(r"layers\.(\d+)\.self_attn\.acre_([qkv])_proj\.(weight|bias)$")
_EMBEDDING = re.compile(r"acre_embed_tokens\.weight$")


def convert(source: Path, target: Path, interval_tokens: int = 16) -> LandmarkAdapter:
    """Convert a published checkpoint to an adapter directory.

    Only the tensors whose names contain `acre_` are read; nothing is unpickled.

    Args:
        source: Directory with safetensors files, or one such file.
        target: Directory for the adapter.
        interval_tokens: Interval to use it with; the published evaluation took 16.

    Raises:
        AdapterError: There is no such checkpoint, or landmark projections are missing from it.
    """
    embedding: Tensor | None = None
    layers: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _landmark_tensors(source):
        match = _PROJECTION.search(name)
        if match:
            layer, projection, part = match.groups()
            layers.setdefault(int(layer), {})[f"{projection}.{part}"] = tensor
        elif _EMBEDDING.search(name):
            embedding = tensor.reshape(-1, tensor.shape[-1])[0]
    if embedding is None or not layers:
        raise AdapterError(
            f"{source} has no acre_embed_tokens and acre_q_proj, acre_k_proj, acre_v_proj; "
            "expected a checkpoint of ACRE's authors: check the path"
        )
    adapter = LandmarkAdapter(
        embedding=embedding,
        projections=[_projections(source, layer, layers) for layer in range(max(layers) + 1)],
        selection=None,
        interval_tokens=interval_tokens,
    )
    save_adapter(adapter, target, AdapterCard(base_model=source.name, notes={"converted": True}))
    return adapter


def _projections(
    source: Path, layer: int, layers: dict[int, dict[str, Tensor]]
) -> dict[str, FullProjection]:
    found = layers.get(layer, {})
    missing = [name for name in "qkv" if f"{name}.weight" not in found]
    if missing:
        raise AdapterError(
            f"{source} lacks acre_{missing[0]}_proj in layer {layer}; expected q, k and v in "
            f"each of {max(layers) + 1} layers: copy the checkpoint again"
        )
    return {
        name: FullProjection(found[f"{name}.weight"], found.get(f"{name}.bias")) for name in "qkv"
    }


def _landmark_tensors(source: Path) -> Iterator[tuple[str, Tensor]]:
    files = [source] if source.is_file() else sorted(source.glob("*.safetensors"))
    if not files:
        raise AdapterError(
            f"{source} holds no safetensors files; expected a checkpoint directory: check the "
            "path, or save a .bin checkpoint as safetensors first (nothing is unpickled here)"
        )
    for file in files:
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118  # not a mapping
                    if "acre_" in name:
                        tensor: Tensor = tensors.get_tensor(name)
                        yield name, tensor.to(torch.bfloat16)
        except (OSError, SafetensorError) as error:
            raise AdapterError(
                f"{file} cannot be read ({error}); expected a safetensors file: copy it again"
            ) from error
