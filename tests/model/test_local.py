import json
import shutil
from pathlib import Path

import pytest
import torch

from acre_rag.errors import ModelError
from acre_rag.model.local import LocalModel
from acre_rag.model.reading import ReadingTwin
from acre_rag.model.self_check import self_check


@pytest.fixture(scope="module")
def saved(local: LocalModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    local.model.save_pretrained(path)
    local.tokenizer.save_pretrained(path)
    return path


def test_a_model_loads_from_its_directory(saved: Path, local: LocalModel) -> None:
    loaded = LocalModel.load(saved, device="cpu", dtype="float32")

    ids = torch.tensor([[5, 9, 200]])
    with torch.inference_mode():
        assert torch.equal(loaded.model(ids).logits, local.model(ids).logits)
    assert (loaded.name, loaded.device.type) == (str(saved), "cpu")
    assert loaded.model.training is False


def test_a_model_that_a_device_map_places_is_read_exactly(saved: Path, local: LocalModel) -> None:
    placed = LocalModel.load(saved, dtype="float32", device_map="cpu")

    ids = torch.tensor([[5, 9, 200]])
    with torch.inference_mode():
        assert torch.equal(placed.model(ids).logits, local.model(ids).logits)
    self_check(placed.model, ReadingTwin(placed.model, None))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_model_loads_in_the_dtype_asked_for(saved: Path, dtype: str) -> None:
    loaded = LocalModel.load(saved, device="cpu", dtype=dtype)

    assert loaded.model.dtype == getattr(torch, dtype)


def test_an_unknown_dtype_is_refused(saved: Path) -> None:
    with pytest.raises(ModelError, match="expected one of float32"):
        LocalModel.load(saved, device="cpu", dtype="float8")


@pytest.mark.parametrize("device", ["cuda:99", "no-such-device"])
def test_a_device_that_is_not_there_is_refused(saved: Path, device: str) -> None:
    with pytest.raises(ModelError, match="cannot be used"):
        LocalModel.load(saved, device=device)


def test_broken_weights_are_refused(saved: Path, tmp_path: Path) -> None:
    for file in saved.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"no weights")

    with pytest.raises(ModelError, match="cannot be loaded"):
        LocalModel.load(tmp_path, device="cpu")


def _copied(saved: Path, place: Path) -> Path:
    return Path(shutil.copytree(saved, place, dirs_exist_ok=True))


@pytest.mark.parametrize("content", ["", "nope", "[]", '{"model_type": "martian"}'])
def test_a_broken_config_is_named(saved: Path, tmp_path: Path, content: str) -> None:
    (_copied(saved, tmp_path) / "config.json").write_text(content)

    with pytest.raises(ModelError, match=r"config\.json of model .* cannot be loaded \(.*: fetch"):
        LocalModel.load(tmp_path, device="cpu")


@pytest.mark.parametrize("content", ["", "nope", "[]", "{}"])
def test_a_broken_tokenizer_is_named(saved: Path, tmp_path: Path, content: str) -> None:
    (_copied(saved, tmp_path) / "tokenizer.json").write_text(content)

    with pytest.raises(ModelError, match=r"the tokenizer of model .* cannot be loaded \(.*whole: "):
        LocalModel.load(tmp_path, device="cpu")


@pytest.mark.parametrize("settings", [{"num_hidden_layers": 5}, {"intermediate_size": 30}])
def test_weights_that_are_not_there_are_not_made_up(
    saved: Path, tmp_path: Path, settings: dict[str, int]
) -> None:
    file = _copied(saved, tmp_path) / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))

    with pytest.raises(ModelError, match=r"lack \d+ tensors of the shape .*model\.layers"):
        LocalModel.load(tmp_path, device="cpu")


def test_old_weights_that_are_no_tensors_are_refused(saved: Path, tmp_path: Path) -> None:
    (_copied(saved, tmp_path) / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"no weights")

    with pytest.raises(ModelError, match="Weights only load failed") as caught:
        LocalModel.load(tmp_path, device="cpu")

    assert "weights_only" not in str(caught.value)  # nobody is told to run what is in the file
