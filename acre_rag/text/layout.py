"""Where the tokens of a document lie: intervals, windows and segments, as plain arithmetic."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Intervals, windows and segments of a document of so many tokens.

    An interval never crosses the end of a window, nor a window the end of a segment, since each
    length is a multiple of the one before. Only the last of each may be shorter.

    Attributes:
        tokens: Raw tokens of the document.
        interval_tokens: Raw tokens of an interval.
        window_tokens: Raw tokens of a window.
        segment_tokens: Raw tokens of a segment.
    """

    tokens: int
    interval_tokens: int
    window_tokens: int
    segment_tokens: int

    @property
    def intervals(self) -> int:
        """Number of intervals, and so of landmarks."""
        return -(-self.tokens // self.interval_tokens)

    @property
    def windows(self) -> int:
        """Number of windows."""
        return -(-self.tokens // self.window_tokens)

    @property
    def segments(self) -> int:
        """Number of segments."""
        return -(-self.tokens // self.segment_tokens)

    def window_tokens_of(self, window: int) -> range:
        """Raw tokens of a window."""
        start = window * self.window_tokens
        return range(start, min(start + self.window_tokens, self.tokens))

    def window_intervals(self, window: int) -> range:
        """Intervals of a window."""
        return self._intervals_between(self.window_tokens_of(window))

    def interval_tokens_of(self, interval: int) -> range:
        """Raw tokens of an interval."""
        start = interval * self.interval_tokens
        return range(start, min(start + self.interval_tokens, self.tokens))

    def segment_windows(self, segment: int) -> range:
        """Windows of a segment."""
        per_segment = self.segment_tokens // self.window_tokens
        return range(segment * per_segment, min((segment + 1) * per_segment, self.windows))

    def segment_intervals(self, segment: int) -> range:
        """Intervals of a segment."""
        start = segment * self.segment_tokens
        return self._intervals_between(range(start, min(start + self.segment_tokens, self.tokens)))

    def segment_of_window(self, window: int) -> int:
        """Segment that a window belongs to."""
        return window * self.window_tokens // self.segment_tokens

    def window_of_interval(self, interval: int) -> int:
        """Window that an interval belongs to."""
        return interval * self.interval_tokens // self.window_tokens

    def _intervals_between(self, tokens: range) -> range:
        return range(tokens.start // self.interval_tokens, -(-tokens.stop // self.interval_tokens))
