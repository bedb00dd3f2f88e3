"""Text to token ids, each with the characters it came from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from acre_rag.errors import DocumentError
from acre_rag.text.layout import Layout


class OffsetTokenizer(Protocol):
    """Encodes text to (ids, offsets); offsets are (start, end) in characters."""

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Encode text as text: nothing in it may turn into a special token."""
        ...


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """Token ids of a text and where in the text each begins and ends.

    Attributes:
        ids: (tokens,), int64.
        starts: First character of each token, (tokens,), int64, never falling.
        ends: End of each token's characters, (tokens,), int64, never falling.
    """

    ids: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


def tokenize(text: str, tokenizer: OffsetTokenizer) -> TokenizedText:
    """Encode a text, keeping the characters that each token stands for.

    Tokens that share one character (the bytes of an emoji, say) all name that character; a token
    without characters of its own stands where the one before it ended.

    Raises:
        DocumentError: The text gives no token at all.
    """
    ids, offsets = tokenizer.encode_with_offsets(text)
    if not ids:
        raise DocumentError("the text gives no tokens; expected some words: leave it out")
    spans = np.asarray(offsets, dtype=np.int64).reshape(-1, 2)
    ends = np.maximum.accumulate(spans[:, 1])
    previous = np.concatenate([[0], ends[:-1]])
    empty = spans[:, 0] == spans[:, 1]
    starts = np.maximum.accumulate(np.where(empty, previous, spans[:, 0]))
    return TokenizedText(np.asarray(ids, dtype=np.int64), starts, ends)


def interval_characters(
    text: TokenizedText, layout: Layout
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the characters of every interval: (starts, ends), each (intervals,).

    An interval reaches to the beginning of the next, so that together they cover all characters
    from the first token on, those that no token names (dropped spaces) included.
    """
    first = np.arange(layout.intervals) * layout.interval_tokens
    starts = text.starts[first]
    last_end = text.ends[-1:]
    ends = np.concatenate([starts[1:], last_end])
    own_ends = text.ends[np.minimum(first + layout.interval_tokens, layout.tokens) - 1]
    # Two intervals may share a character: each of them then shows it whole.
    return starts, np.maximum(ends, own_ends)


def join_ids(parts: Sequence[Sequence[int]]) -> list[int]:
    """Join lists of token ids."""
    return [token for part in parts for token in part]
