import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from acre_rag.cache import KVBlock
from acre_rag.refill import Splicing, splice
from tests.reference import choice

LAYERS, KV_HEADS, HEAD_DIM = 2, 3, 4


def _block(tokens: int, seed: int) -> KVBlock:
    generator = torch.Generator().manual_seed(seed)
    shape = (LAYERS, KV_HEADS, tokens, HEAD_DIM)
    return KVBlock(torch.randn(shape, generator=generator), torch.randn(shape, generator=generator))


def _rows(tensor: Tensor) -> list[Tensor]:
    return list(tensor.unbind(2))


@given(
    kept=st.sets(st.integers(0, 8)),
    sizes=st.dictionaries(st.integers(0, 8), st.integers(1, 3)),
    cut=st.integers(0, 20),
    prefix_tokens=st.integers(0, 2),
)
def test_chosen_tokens_stand_right_before_their_own_landmark(
    kept: set[int], sizes: dict[int, int], cut: int, prefix_tokens: int
) -> None:
    intervals = sorted(kept)
    chosen = {interval: sizes[interval] for interval in sorted(sizes) if interval in kept}
    prefix, landmarks = _block(prefix_tokens, 0), _block(len(intervals), 1)
    owners = [interval for interval, size in chosen.items() for _ in range(size)]
    refill = _block(len(owners), 2)

    ours = splice(
        prefix,
        [landmarks.slice(0, 1), landmarks.slice(1, len(intervals))],
        torch.tensor(intervals).long(),
        [refill.slice(0, cut), refill.slice(cut, len(owners))],
        torch.tensor(owners).long(),
    )

    for name in ("keys", "values"):
        own = dict(zip(intervals, _rows(getattr(landmarks, name)), strict=True))
        tokens: dict[int, list[Tensor]] = {}
        for owner, row in zip(owners, _rows(getattr(refill, name)), strict=True):
            tokens.setdefault(owner, []).append(row)
        rows = _rows(getattr(prefix, name))
        theirs = [*rows, *choice.splice(own, tokens)] if own else rows
        assert ours.tokens == len(theirs)
        for place, row in enumerate(theirs):
            assert torch.equal(getattr(ours.taken, name)[:, :, place], row)


def test_raw_tokens_stand_alone_where_no_landmarks_are_kept() -> None:
    prefix, refill = _block(2, 0), _block(5, 1)
    owners = torch.tensor([3, 3, 7, 7, 7])

    ours = splice(prefix, [], torch.empty(0).long(), [refill], owners).taken

    assert torch.equal(ours.keys, torch.cat([prefix.keys, refill.keys], dim=2))
    assert torch.equal(ours.values, torch.cat([prefix.values, refill.values], dim=2))


def test_what_is_spliced_is_left_as_it_is() -> None:
    prefix, landmarks, refill = _block(2, 0), _block(4, 1), _block(6, 2)
    before = [block.keys.clone() for block in (prefix, landmarks, refill)]
    spliced = splice(
        prefix, [landmarks], torch.arange(4), [refill], torch.tensor([0, 0, 0, 2, 2, 2])
    )

    spliced.whole.keys.zero_()

    assert all(
        torch.equal(block.keys, old)
        for block, old in zip((prefix, landmarks, refill), before, strict=True)
    )


def test_tokens_may_come_in_any_order() -> None:
    prefix, landmarks, refill = _block(2, 0), _block(3, 1), _block(5, 2)
    kept, owners = torch.arange(3), torch.tensor([0, 0, 2, 2, 2])
    splicing = Splicing(prefix, kept, owners)

    splicing.put_tokens([3], refill.slice(3, 5))
    splicing.put_landmarks(1, landmarks.slice(1, 3))
    splicing.put_tokens([0], refill.slice(0, 2))
    splicing.put_tokens([2], refill.slice(2, 3))
    splicing.put_landmarks(0, landmarks.slice(0, 1))

    theirs = splice(prefix, [landmarks], kept, [refill], owners).taken
    assert torch.equal(splicing.done().taken.keys, theirs.keys)
    assert torch.equal(splicing.done().taken.values, theirs.values)


def test_runs_of_tokens_may_come_together() -> None:
    prefix, landmarks, refill = _block(2, 0), _block(4, 1), _block(8, 2)
    kept, owners = torch.arange(4), torch.tensor([0, 0, 1, 1, 3, 3, 3, 3])
    splicing = Splicing(prefix, kept, owners)

    splicing.put_landmarks(0, landmarks)
    chosen = [0, 1, 4, 5, 6, 7]
    together = KVBlock(refill.keys[:, :, chosen], refill.values[:, :, chosen])
    splicing.put_tokens([0, 4, 6], together)
    splicing.put_tokens([2], refill.slice(2, 4))

    theirs = splice(prefix, [landmarks], kept, [refill], owners).taken
    assert torch.equal(splicing.done().taken.keys, theirs.keys)
    assert torch.equal(splicing.done().taken.values, theirs.values)


def test_a_cache_that_lacks_tokens_is_refused() -> None:
    splicing = Splicing(_block(2, 0), torch.arange(3), torch.tensor([0, 0]))
    splicing.put_landmarks(0, _block(3, 1))

    with pytest.raises(ValueError, match="2 tokens too few"):
        splicing.done()
