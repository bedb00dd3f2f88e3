import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acre_rag.config import Prompt
from acre_rag.errors import DocumentError
from acre_rag.model.prompt import PromptFrame
from acre_rag.text.layout import Layout
from acre_rag.text.tokens import TokenizedText, interval_characters, join_ids, tokenize
from tests.tiny import tiny_tokenizer

FRAME = PromptFrame(tiny_tokenizer(), Prompt())


class Given:
    """A tokenizer that answers what it was told to."""

    def __init__(self, offsets: list[tuple[int, int]]) -> None:
        self.offsets = offsets

    def encode_with_offsets(self, _text: str) -> tuple[list[int], list[tuple[int, int]]]:
        return list(range(len(self.offsets))), self.offsets


def _layout(text: TokenizedText, interval: int) -> Layout:
    return Layout(
        tokens=len(text.ids),
        interval_tokens=interval,
        window_tokens=interval,
        segment_tokens=interval,
    )


@pytest.mark.parametrize(
    ("offsets", "starts", "ends"),
    [
        # The bytes of one character.
        ([(0, 1), (0, 1), (1, 2)], [0, 0, 1], [1, 1, 2]),
        # Tokens without characters, at the front, within, at the end.
        ([(0, 0), (0, 2), (0, 0), (2, 3), (0, 0)], [0, 0, 2, 2, 3], [0, 2, 2, 3, 3]),
        # Dropped spaces between.
        ([(0, 2), (4, 5)], [0, 4], [2, 5]),
        # A token that reaches back.
        ([(0, 3), (1, 2), (3, 4)], [0, 1, 3], [3, 3, 4]),
    ],
)
def test_offsets_of_any_tokenizer_never_fall(
    offsets: list[tuple[int, int]], starts: list[int], ends: list[int]
) -> None:
    found = tokenize("text", Given(offsets))

    assert found.starts.tolist() == starts
    assert found.ends.tolist() == ends


def test_text_without_tokens_is_refused() -> None:
    with pytest.raises(DocumentError, match="gives no tokens"):
        tokenize("\u200b", Given([]))


def test_intervals_cover_dropped_spaces_and_share_split_characters() -> None:
    text = tokenize("a  b\U0001f600", Given([(0, 1), (3, 4), (4, 5), (4, 5)]))

    starts, ends = interval_characters(text, _layout(text, 1))

    assert starts.tolist() == [0, 3, 4, 4]
    assert ends.tolist() == [3, 4, 5, 5]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_intervals_of_any_text_cover_all_of_it_without_falling_back(content: str) -> None:
    text = tokenize(content, FRAME)

    starts, ends = interval_characters(text, _layout(text, 3))

    assert starts[0] == 0
    assert ends[-1] == len(content)
    assert bool((np.diff(starts) >= 0).all())
    assert bool((starts < ends).all())
    assert bool((starts[1:] <= ends[:-1]).all())
    # The bytes of the tokens are those of the text, whatever it holds.
    assert tiny_tokenizer().decode(text.ids.tolist()) == content


def test_lists_of_ids_join_in_order() -> None:
    assert join_ids([[1, 2], [], [3]]) == [1, 2, 3]
