import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from acre_rag.cache import KVBlock
from acre_rag.model.landmarks import LandmarkAdapter
from acre_rag.model.local import LocalModel
from acre_rag.model.prefill import (
    interleave,
    interleave_embeddings,
    pool_intervals,
)
from acre_rag.model.reader import DocumentReader
from acre_rag.model.reading import ReadingTwin
from tests.model.scenario import FIRST
from tests.tiny import tiny_settings


@given(tokens=st.integers(1, 40), interval=st.integers(1, 9))
def test_a_landmark_follows_every_interval(tokens: int, interval: int) -> None:
    rows: list[str] = []
    for token in range(tokens):
        rows.append(f"t{token}")
        if (token + 1) % interval == 0 or token == tokens - 1:
            rows.append(f"l{token // interval}")

    places = interleave(tokens, interval, torch.device("cpu"))

    assert places.rows == len(rows)
    assert [rows[place] for place in places.tokens] == [f"t{token}" for token in range(tokens)]
    landmarks = range(-(-tokens // interval))
    assert [rows[place] for place in places.landmarks] == [f"l{n}" for n in landmarks]


def test_landmarks_start_from_their_own_embedding(
    local: LocalModel, adapter: LandmarkAdapter
) -> None:
    twin = ReadingTwin(local.model, adapter)
    ids = torch.tensor([[5, 9, 200]])

    rows = interleave_embeddings(twin, ids, interleave(3, 2, torch.device("cpu")))[0]

    table = local.model.get_input_embeddings().weight
    expected = [table[5], table[9], adapter.embedding, table[200], adapter.embedding]
    assert torch.equal(rows, torch.stack(expected))


def test_landmarks_without_an_adapter_are_refused(local: LocalModel) -> None:
    twin = ReadingTwin(local.model, None)

    with pytest.raises(ValueError, match="no landmark adapter"):
        interleave_embeddings(twin, torch.tensor([[5]]), interleave(1, 2, torch.device("cpu")))


def test_pooling_averages_the_shorter_last_interval_too(rng: torch.Generator) -> None:
    block = KVBlock(*(torch.randn(2, 3, 7, 4, generator=rng) for _ in range(2)))

    pooled = pool_intervals(block, 3)

    assert pooled.tokens == 3
    torch.testing.assert_close(
        pooled.keys[:, :, 1], sum(block.keys[:, :, t] for t in (3, 4, 5)) / 3
    )
    assert torch.equal(pooled.values[:, :, 2], block.values[:, :, 6])


@pytest.mark.parametrize("stored", ["float32", "bfloat16", "float16"])
def test_windows_read_in_another_run_are_the_same_bits(
    local: LocalModel, adapter: LandmarkAdapter, stored: str
) -> None:
    reader = DocumentReader(local, adapter, tiny_settings(stored_dtype=stored))
    ids, layout = np.array(FIRST), reader.layout(len(FIRST))
    together = dict(reader.read(ids, layout, range(3), lambda _: None))
    dtype = getattr(torch, stored)

    kept = {window: read.l1.to(dtype=dtype, device="cpu") for window, read in together.items()}
    alone = dict(reader.read(ids, layout, [1], kept.get))

    assert torch.equal(alone[1].l1.keys, together[1].l1.keys)
    assert torch.equal(alone[1].l2.values, together[1].l2.values)
    assert torch.equal(kept[1].values.float(), together[1].l1.values)
