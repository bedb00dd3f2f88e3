"""Blocks on their way into a refilled cache: together where they are alike, each once."""

from collections.abc import Sequence

import torch
from hypothesis import given
from hypothesis import strategies as st

from acre_rag.cache import KVBlock, StoredBlock
from acre_rag.engine.arrivals import Arrivals

BLOCK_BYTES = 2 * 2 * 1 * 4 * 4  # of one token: keys and values of 2 layers, 4 channels, float32


def _joined(blocks: Sequence[StoredBlock]) -> KVBlock:
    return KVBlock.concatenate([b.to(dtype=torch.float32, device="cpu") for b in blocks])


@given(lengths=st.lists(st.integers(1, 2)), most=st.integers(0, 5))
def test_every_block_arrives_once_with_its_interval(lengths: list[int], most: int) -> None:
    blocks = [
        KVBlock(*torch.full((2, 2, 1, length, 4), float(place)))
        for place, length in enumerate(lengths)
    ]
    groups: list[tuple[list[int], KVBlock]] = []
    arrivals = Arrivals(_joined, lambda own, block: groups.append((own, block)), most * BLOCK_BYTES)

    for place, block in enumerate(blocks):
        arrivals.add(place, block)
    arrivals.flush()

    assert [place for own, _ in groups for place in own] == list(range(len(blocks)))
    for own, block in groups:
        length = lengths[own[0]]
        assert {lengths[place] for place in own} == {length}
        assert len(own) == 1 or len(own) * length <= most
        assert block.keys[0, 0, ::length, 0].tolist() == own
