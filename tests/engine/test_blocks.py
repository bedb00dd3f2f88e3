import pytest
from hypothesis import given
from hypothesis import strategies as st

from acre_rag.engine.blocks import BlockPlan
from acre_rag.engine.ingest import intervals_per_block
from acre_rag.text.layout import Layout


def _layout(tokens: int, interval: int = 16, window: int = 1024) -> Layout:
    return Layout(
        tokens=tokens,
        interval_tokens=interval,
        window_tokens=window,
        segment_tokens=4 * window,
    )


@given(tokens=st.integers(1, 60), per_block=st.sampled_from([1, 2, 3, 6]))
def test_blocks_hold_every_token_once_and_never_cross_windows(tokens: int, per_block: int) -> None:
    layout = _layout(tokens, interval=3, window=18)
    plan = BlockPlan(layout, per_block)

    blocks = [block for window in range(layout.windows) for block in plan.window_blocks(window)]

    assert blocks == list(range(len(blocks)))
    assert [t for block in blocks for t in plan.block_tokens(block)] == list(range(tokens))
    for block in blocks:
        assert set(plan.block_tokens(block)) <= set(layout.window_tokens_of(plan.window_of(block)))
    for interval in range(layout.intervals):
        held = plan.block_tokens(plan.block_of(interval))
        assert set(layout.interval_tokens_of(interval)) <= set(held)


def test_names_of_a_window_are_its_landmarks_and_its_blocks() -> None:
    plan = BlockPlan(_layout(50, interval=3, window=18), 2)

    assert plan.window_names(1) == {"l1:1", "l2:3", "l2:4", "l2:5"}
    assert plan.blocks_of([1, 0, 5]) == [0, 2]


@pytest.mark.parametrize(
    ("token_bytes", "expected"),
    [
        (5 * 1024, 2),  # two intervals have 160 KB
        (11_520, 1),  # one interval of the demo model, in int8, has 180 KB already
        (128 * 1024, 1),
        (1024, 8),
        (1, 64),  # no more than a window
    ],
)
def test_blocks_have_an_eighth_of_a_megabyte_or_more(token_bytes: int, expected: int) -> None:
    assert intervals_per_block(_layout(5000), 16 * token_bytes) == expected
