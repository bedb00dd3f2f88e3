"""Landmarks by segment, window by window."""

import torch

from acre_rag.cache import KVBlock
from acre_rag.engine.windows import put_window, window_of
from acre_rag.text.layout import Layout

LAYOUT = Layout(tokens=51, interval_tokens=2, window_tokens=6, segment_tokens=12)


def _block(landmarks: int, seed: int = 0) -> KVBlock:
    generator = torch.Generator().manual_seed(seed)
    return KVBlock(*torch.randn(2, 2, 3, landmarks, 4, generator=generator))


def test_windows_in_their_order_are_the_segments_in_theirs() -> None:
    sizes = [len(LAYOUT.segment_intervals(segment)) for segment in range(LAYOUT.segments)]
    landmarks = tuple(_block(size, seed) for seed, size in enumerate(sizes))

    windows = [window_of(landmarks, LAYOUT, window) for window in range(LAYOUT.windows)]

    assert [w.tokens for w in windows] == [3] * 8 + [2]  # 51 tokens: the last window has 3
    ours, theirs = KVBlock.concatenate(windows), KVBlock.concatenate(landmarks)
    assert torch.equal(ours.keys, theirs.keys)
    assert torch.equal(ours.values, theirs.values)


def test_a_window_is_put_where_it_is_looked_for_and_nowhere_else() -> None:
    sizes = [len(LAYOUT.segment_intervals(segment)) for segment in range(LAYOUT.segments)]
    landmarks = tuple(_block(size, seed) for seed, size in enumerate(sizes))
    before = [window_of(landmarks, LAYOUT, w).keys.clone() for w in range(LAYOUT.windows)]
    block = _block(3, 99)

    put_window(landmarks, LAYOUT, 3, block)

    after = [window_of(landmarks, LAYOUT, w).keys for w in range(LAYOUT.windows)]
    assert torch.equal(after[3], block.keys)
    assert all(torch.equal(after[w], before[w]) for w in range(LAYOUT.windows) if w != 3)
