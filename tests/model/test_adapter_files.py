import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from acre_rag.errors import AdapterError
from acre_rag.model.adapter_files import AdapterCard, load_adapter, save_adapter
from acre_rag.model.landmarks import LandmarkAdapter
from acre_rag.model.local import LocalModel
from tests.tiny import tiny_adapter, tiny_model

CARD = AdapterCard(base_model="tiny", notes={"steps": 3})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["low-rank", "full"])
@pytest.mark.parametrize("selecting", [True, False])
@pytest.mark.parametrize("asking", [0, 3])
def test_an_adapter_comes_back_bit_for_bit(
    local: LocalModel,
    tmp_path: Path,
    kind: str,
    dtype: torch.dtype,
    asking: int,
    *,
    selecting: bool,
) -> None:
    saved = tiny_adapter(local.model.config, kind, question_landmarks=asking, dtype=dtype)
    saved = replace(saved, refill_score=0.75) if selecting else replace(saved, selection=None)

    save_adapter(saved, tmp_path / "adapter", CARD)
    loaded = load_adapter(tmp_path / "adapter")

    assert loaded.interval_tokens == saved.interval_tokens
    assert loaded.refill_score == saved.refill_score
    assert torch.equal(loaded.embedding, saved.embedding)
    assert loaded.question_landmarks == asking
    if saved.question_embeddings is not None:
        assert loaded.question_embeddings is not None
        assert torch.equal(loaded.question_embeddings, saved.question_embeddings)
    assert (loaded.selection is None) is (not selecting)
    assert selecting is False or torch.equal(loaded.selection, saved.selection)
    for ours, theirs in zip(loaded.projections, saved.projections, strict=True):
        for name in "qkv":
            assert type(ours[name]) is type(theirs[name])
            for field in ("down", "up", "weight", "bias"):
                if hasattr(theirs[name], field):
                    assert torch.equal(getattr(ours[name], field), getattr(theirs[name], field))


# PEFT asks transformers in a way that is on its way out.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_peft_reads_the_low_rank_part_as_the_same_change(
    local: LocalModel, adapter: LandmarkAdapter, tmp_path: Path
) -> None:
    save_adapter(adapter, tmp_path, CARD)

    peft = PeftModel.from_pretrained(tiny_model("llama"), tmp_path).merge_and_unload()

    layers = zip(local.model.model.layers, peft.model.layers, strict=True)
    for number, (ours, theirs) in enumerate(layers):
        for name in "qkv":
            projection = adapter.projections[number][name]
            change = (
                getattr(theirs.self_attn, f"{name}_proj").weight
                - getattr(ours.self_attn, f"{name}_proj").weight
            )
            torch.testing.assert_close(change, projection.up @ projection.down)


def _remove(name: str) -> Callable[[Path], None]:
    return lambda path: (path / name).unlink()


def _write(name: str, content: str) -> Callable[[Path], None]:
    return lambda path: (path / name).write_text(content) and None


def _edit(**changes: object) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        config = json.loads((path / "acre_config.json").read_text())
        (path / "acre_config.json").write_text(json.dumps(config | changes))

    return edit


@pytest.mark.parametrize(
    "damage",
    [
        _remove("acre_config.json"),
        _remove("landmarks.safetensors"),
        _remove("adapter_model.safetensors"),
        _write("landmarks.safetensors", "no tensors"),
        _write("acre_config.json", "{"),
        _write("acre_config.json", "[]"),
        _edit(format=99),
        _edit(layers=9),
        _edit(layers="three"),
        _edit(low_rank=False),
        _edit(interval_tokens=None),
        _edit(refill_score="much"),
        _edit(refill_score=1.5),
    ],
)
def test_a_damaged_adapter_is_refused(
    adapter: LandmarkAdapter, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    save_adapter(adapter, tmp_path, CARD)
    damage(tmp_path)

    with pytest.raises(AdapterError, match="expected"):
        load_adapter(tmp_path)


def test_tensors_that_would_be_left_out_are_refused(local: LocalModel, tmp_path: Path) -> None:
    save_adapter(tiny_adapter(local.model.config), tmp_path, CARD)
    path = tmp_path / "landmarks.safetensors"
    save_file({**load_file(path), "bottleneck": torch.ones(2)}, path)

    with pytest.raises(AdapterError, match="holds bottleneck, which this version does not know"):
        load_adapter(tmp_path)


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"has no acre_config\.json"):
        load_adapter(tmp_path / "nowhere")


def test_a_place_that_cannot_be_written_is_refused(
    adapter: LandmarkAdapter, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(AdapterError, match="cannot be written"):
        save_adapter(adapter, tmp_path / "file" / "adapter", CARD)
