"""The authors' checkpoints become adapters that read as their weights say."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from acre_rag.errors import AdapterError
from acre_rag.model.adapter_files import load_adapter
from acre_rag.model.convert import convert
from acre_rag.model.landmarks import FullProjection
from acre_rag.text.document import Document
from tests.conftest import MakeEngine
from tests.tiny import HEAD_DIM, HIDDEN, KV_HEADS, LAYERS, Q_HEADS


def published_checkpoint(rng: torch.Generator) -> dict[str, Tensor]:
    """A random checkpoint with the published names: the frozen model's tensors stand beside."""
    tensors = {
        "model.embed_tokens.weight": torch.randn(9, HIDDEN, generator=rng),
        "model.acre_embed_tokens.weight": torch.randn(1, HIDDEN, generator=rng),
    }
    for layer in range(LAYERS):
        for name, heads in (("q", Q_HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
            place = f"model.layers.{layer}.self_attn"
            for owner in ("", "acre_"):
                weight = torch.randn(heads * HEAD_DIM, HIDDEN, generator=rng)
                tensors[f"{place}.{owner}{name}_proj.weight"] = weight
                bias = torch.randn(heads * HEAD_DIM, generator=rng)
                tensors[f"{place}.{owner}{name}_proj.bias"] = bias
    return {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}


def test_a_converted_checkpoint_holds_the_published_projections(
    tmp_path: Path, rng: torch.Generator
) -> None:
    tensors = published_checkpoint(rng)
    names = sorted(tensors)
    save_shards(tmp_path / "published", tensors, [names[:7], names[7:]])

    convert(tmp_path / "published", tmp_path / "adapter", interval_tokens=8)
    adapter = load_adapter(tmp_path / "adapter")

    assert adapter.interval_tokens == 8
    assert adapter.selection is None
    assert torch.equal(adapter.embedding, tensors["model.acre_embed_tokens.weight"][0])
    for layer, projections in enumerate(adapter.projections):
        for name, projection in projections.items():
            place = f"model.layers.{layer}.self_attn.acre_{name}_proj"
            assert isinstance(projection, FullProjection)
            assert projection.bias is not None
            assert torch.equal(projection.weight, tensors[f"{place}.weight"])
            assert torch.equal(projection.bias, tensors[f"{place}.bias"])


def test_a_converted_adapter_answers_by_the_published_rule(
    tmp_path: Path, rng: torch.Generator, make_engine: MakeEngine
) -> None:
    save_shards(tmp_path / "published", published_checkpoint(rng))
    convert(tmp_path / "published", tmp_path / "adapter", interval_tokens=4)

    engine = make_engine(adapter=load_adapter(tmp_path / "adapter"))
    engine.ingest([Document(id="place", text="The lamp is in the harbour. " * 9)])
    found = engine.retrieve("Where is it?", refill_tokens=12)

    assert engine.reader.selection is None
    assert found.usage.refilled_tokens == 12


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ("model.acre_embed_tokens.weight", "acre_embed_tokens"),
        ("model.layers.1.self_attn.acre_k_proj.weight", "acre_k_proj in layer 1"),
    ],
)
def test_a_checkpoint_with_a_part_missing_is_refused_by_its_name(
    tmp_path: Path, rng: torch.Generator, missing: str, named: str
) -> None:
    tensors = published_checkpoint(rng)
    del tensors[missing]
    save_shards(tmp_path / "published", tensors)

    with pytest.raises(AdapterError, match=named):
        convert(tmp_path / "published", tmp_path / "adapter")

    assert not (tmp_path / "adapter").exists()


def test_a_directory_without_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"never unpickled")

    with pytest.raises(AdapterError, match="holds no safetensors files"):
        convert(tmp_path, tmp_path / "adapter")


def test_a_broken_safetensors_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"nonsense" * 9)

    with pytest.raises(AdapterError, match="cannot be read"):
        convert(tmp_path, tmp_path / "adapter")


def save_shards(
    directory: Path, tensors: dict[str, Tensor], shards: list[list[str]] | None = None
) -> None:
    directory.mkdir()
    for number, names in enumerate(shards or [sorted(tensors)]):
        part = {name: tensors[name] for name in names}
        save_file(part, directory / f"model-{number}.safetensors")
