"""Text as it comes, without the white space around it, and only up to a stop word."""

from collections.abc import Generator, Sequence
from contextlib import closing

from acre_rag import AnswerStream, Completion


def spoken(said: AnswerStream | Completion, stop: Sequence[str] = ()) -> Generator[str, None, None]:
    """Give the text of what is said, as it comes; closing this stops the model."""
    with said, closing(stripped(until_stop(_raw(said), stop))) as pieces:
        yield from pieces


def stripped(pieces: Generator[str, None, None]) -> Generator[str, None, None]:
    """Leave out white space at both ends of a text that comes in pieces."""
    begun, held = False, ""
    with closing(pieces):
        for piece in pieces:
            text = held + (piece if begun else piece.lstrip())
            shown = text.rstrip()
            held = text[len(shown) :]
            if shown:
                begun = True
                yield shown


def until_stop(
    pieces: Generator[str, None, None], stop: Sequence[str]
) -> Generator[str, None, None]:
    """End a text before the first of some words, wherever its pieces break.

    What may be the beginning of a stop word is held back until it is known to be none.
    """
    # A string is a sequence of letters, and was meant as one word.
    words = [word for word in ([stop] if isinstance(stop, str) else stop) if word]
    held = ""
    with closing(pieces):
        for piece in pieces:
            held += piece
            found = [(at + len(word), at) for word in words if (at := held.find(word)) >= 0]
            if found:
                # The word that is complete first counts, so that pieces make no difference.
                held = held[: min(found)[1]]
                break
            kept = max((_beginning(held, word) for word in words), default=0)
            shown, held = held[: len(held) - kept], held[len(held) - kept :]
            if shown:
                yield shown
    if held:
        yield held


def _beginning(text: str, word: str) -> int:
    """Count the characters at the end of a text that a word begins with."""
    lengths = range(min(len(word) - 1, len(text)), 0, -1)
    return next((length for length in lengths if text.endswith(word[:length])), 0)


def _raw(said: AnswerStream | Completion) -> Generator[str, None, None]:
    yield from said
