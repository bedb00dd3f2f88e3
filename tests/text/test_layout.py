from hypothesis import given
from hypothesis import strategies as st

from acre_rag.text.layout import Layout

LAYOUTS = st.builds(
    lambda tokens, interval, windows, segments: Layout(
        tokens=tokens,
        interval_tokens=interval,
        window_tokens=interval * windows,
        segment_tokens=interval * windows * segments,
    ),
    st.integers(1, 90),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(1, 3),
)


@given(LAYOUTS)
def test_every_token_is_in_one_interval_one_window_and_one_segment(layout: Layout) -> None:
    everything = list(range(layout.tokens))

    by_interval = [t for i in range(layout.intervals) for t in layout.interval_tokens_of(i)]
    by_window = [t for w in range(layout.windows) for t in layout.window_tokens_of(w)]
    windows = [w for s in range(layout.segments) for w in layout.segment_windows(s)]
    intervals = [i for w in range(layout.windows) for i in layout.window_intervals(w)]
    by_segment = [i for s in range(layout.segments) for i in layout.segment_intervals(s)]

    assert by_interval == by_window == everything
    assert windows == list(range(layout.windows))
    assert intervals == by_segment == list(range(layout.intervals))


@given(LAYOUTS)
def test_an_interval_lies_in_its_window_and_a_window_in_its_segment(layout: Layout) -> None:
    for interval in range(layout.intervals):
        window = layout.window_of_interval(interval)
        assert interval in layout.window_intervals(window)
        assert set(layout.interval_tokens_of(interval)) <= set(layout.window_tokens_of(window))
    for window in range(layout.windows):
        segment = layout.segment_of_window(window)
        assert window in layout.segment_windows(segment)
        assert set(layout.window_intervals(window)) <= set(layout.segment_intervals(segment))


@given(LAYOUTS)
def test_only_the_last_of_each_may_be_shorter(layout: Layout) -> None:
    sizes = [len(layout.interval_tokens_of(i)) for i in range(layout.intervals)]

    assert set(sizes[:-1]) <= {layout.interval_tokens}
    assert 1 <= sizes[-1] <= layout.interval_tokens
