from dataclasses import replace

import pytest
import torch

from acre_rag.errors import AdapterError
from acre_rag.model.landmarks import LandmarkAdapter, LowRankProjection
from acre_rag.model.local import LocalModel
from acre_rag.model.reading import ReadingTwin
from tests.tiny import HIDDEN, LAYERS, RANK, tiny_adapter


def test_rows_before_the_first_landmark_are_as_without_an_adapter(
    local: LocalModel, any_adapter: LandmarkAdapter
) -> None:
    ids = torch.tensor([[5, 9, 200, 41, 7]])
    plain, twin = ReadingTwin(local.model, None), ReadingTwin(local.model, any_adapter)

    with torch.inference_mode():
        without = plain.read(plain.embed(ids))
        off = twin.read(twin.embed(ids))
        flagged = twin.read(twin.embed(ids), landmark_rows=torch.tensor([3]))

    assert torch.equal(off.states, without.states)
    assert torch.equal(flagged.states[:, :3], without.states[:, :3])
    assert not torch.allclose(flagged.states[:, 3:], without.states[:, 3:], atol=1e-2)


def test_one_pass_does_not_remember_the_landmarks_of_another(
    local: LocalModel, adapter: LandmarkAdapter
) -> None:
    twin, ids = ReadingTwin(local.model, adapter), torch.tensor([[5, 9, 200]])
    before = twin.read(twin.embed(ids)).states

    twin.read(twin.embed(ids), landmark_rows=torch.tensor([0, 2]))

    assert torch.equal(twin.read(twin.embed(ids)).states, before)


def _wide(adapter: LandmarkAdapter) -> LandmarkAdapter:
    wide = LowRankProjection(torch.zeros(RANK, HIDDEN), torch.zeros(99, RANK))
    return replace(adapter, projections=[dict(p, k=wide) for p in adapter.projections])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda adapter: replace(adapter, embedding=torch.zeros(HIDDEN + 1)),
        lambda adapter: replace(adapter, projections=adapter.projections[:-1]),
        lambda adapter: replace(adapter, selection=torch.ones(LAYERS, 2, 3)),
        _wide,
    ],
    ids=["hidden", "layers", "selection", "width"],
)
def test_an_adapter_of_another_model_is_refused(
    local: LocalModel, adapter: LandmarkAdapter, spoil: object
) -> None:
    with pytest.raises(AdapterError, match="trained for this model"):
        ReadingTwin(local.model, spoil(adapter))  # type: ignore[operator]


def test_full_projections_of_another_size_are_refused(local: LocalModel) -> None:
    adapter = tiny_adapter(local.model.config, "full")
    projections = [dict(p, q=p["k"]) for p in adapter.projections]

    with pytest.raises(AdapterError, match="q projection"):
        ReadingTwin(local.model, replace(adapter, projections=projections))
