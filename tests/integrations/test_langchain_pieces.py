"""Text that comes in pieces, held to what the whole text would give."""

from collections.abc import Generator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acre_langchain.pieces import stripped, until_stop

PIECES = st.lists(st.text("ab \n", max_size=4), max_size=8)
WORDS = st.lists(st.text("ab", max_size=4), max_size=3)


class Model:
    """Gives pieces, and remembers how many were asked for and whether it was closed."""

    def __init__(self, pieces: Sequence[str]) -> None:
        self.given = 0
        self.closed = False
        self.pieces = self._run(pieces)

    def _run(self, pieces: Sequence[str]) -> Generator[str, None, None]:
        try:
            for piece in pieces:
                self.given += 1
                yield piece
        finally:
            self.closed = True


def cut(text: str, words: Sequence[str]) -> str:
    """Cut a text letter by letter: before the first stop word that is complete."""
    for end in range(1, len(text) + 1):
        whole = [word for word in words if word and text[:end].endswith(word)]
        if whole:
            return text[: end - max(map(len, whole))]
    return text


@given(PIECES)
def test_white_space_around_a_text_is_left_out_however_it_is_cut(pieces: list[str]) -> None:
    ours = list(stripped(Model(pieces).pieces))

    assert "".join(ours) == "".join(pieces).strip()
    assert all(ours)


@given(PIECES, WORDS)
def test_a_text_ends_before_its_first_stop_word_however_it_is_cut(
    pieces: list[str], words: list[str]
) -> None:
    ours = list(until_stop(Model(pieces).pieces, words))

    assert "".join(ours) == cut("".join(pieces), words)
    assert all(ours)


def test_nothing_is_held_back_that_no_stop_word_begins_with() -> None:
    model = Model(["one ", "two ", "three"])
    text = until_stop(model.pieces, ["wo t"])

    assert next(text) == "one "
    assert model.given == 1
    assert next(text) == "t"


def test_a_stop_word_closes_the_model_at_once() -> None:
    model = Model(["one ", "two ", "three"])

    assert list(until_stop(model.pieces, ["two"])) == ["one "]
    assert model.closed
    assert model.given == 2


@pytest.mark.parametrize("wrap", [stripped, lambda pieces: until_stop(pieces, ["x"])])
def test_closing_a_text_closes_the_model(wrap: object) -> None:
    model = Model(["one", "two"])
    text = wrap(model.pieces)  # type: ignore[operator]
    next(text)

    text.close()

    assert model.closed
