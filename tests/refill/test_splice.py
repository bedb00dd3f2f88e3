import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from acre_rag.cache import KVBlock
from acre_rag.refill import splice
from tests.reference import choice

LAYERS, KV_HEADS, HEAD_DIM = 2, 3, 4


def _block(tokens: int, seed: int) -> KVBlock:
    generator = torch.Generator().manual_seed(seed)
    shape = (LAYERS, KV_HEADS, tokens, HEAD_DIM)
    return KVBlock(torch.randn(shape, generator=generator), torch.randn(shape, generator=generator))


def _rows(tensor: Tensor) -> list[Tensor]:
    return list(tensor.unbind(2))


@given(
    kept=st.sets(st.integers(0, 8), min_size=1),
    sizes=st.dictionaries(st.integers(0, 8), st.integers(1, 3)),
)
def test_chosen_tokens_stand_right_before_their_own_landmark(
    kept: set[int], sizes: dict[int, int]
) -> None:
    intervals = sorted(kept)
    chosen = {interval: sizes[interval] for interval in sorted(sizes) if interval in kept}
    landmarks = _block(len(intervals), 1)
    owners = [interval for interval, size in chosen.items() for _ in range(size)]
    refill = _block(len(owners), 2) if owners else None

    ours = splice(landmarks, torch.tensor(intervals), refill, torch.tensor(owners).long())

    for name in ("keys", "values"):
        own = dict(zip(intervals, _rows(getattr(landmarks, name)), strict=True))
        tokens: dict[int, list[Tensor]] = {}
        if refill is not None:
            for owner, row in zip(owners, _rows(getattr(refill, name)), strict=True):
                tokens.setdefault(owner, []).append(row)
        theirs = choice.splice(own, tokens)
        assert torch.equal(getattr(ours, name), theirs.movedim(0, 2))


def test_budget_0_gives_the_landmarks_as_they_are() -> None:
    landmarks = _block(4, 1)

    assert splice(landmarks, torch.arange(4), None, torch.empty(0).long()) is landmarks
