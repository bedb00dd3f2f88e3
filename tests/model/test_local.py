from pathlib import Path

import pytest
import torch

from acre_rag.errors import ModelError
from acre_rag.model.local import LocalModel


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
