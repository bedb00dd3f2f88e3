"""A text of any length that is the same everywhere: what it says costs nothing."""

import random

from acre_rag.model.prompt import PromptFrame

QUESTIONS = (
    "Which valve did the harbour keeper close before the storm?",
    "Who repaired the engine in winter, and which one?",
    "What did her sister measure on the third day?",
    "Which rope did the crew forget at low water?",
    "Who painted a door after nine?",
)

_SAMPLE = 64
_WHO = ("the harbour keeper", "a young engineer", "the old pilot", "her sister", "the crew")
_DID = ("opened", "closed", "repaired", "painted", "counted", "measured", "forgot", "described")
_WHAT = ("valve", "engine", "lamp", "ladder", "crate", "map", "pump", "rope", "door", "letter")
_WHEN = ("before the storm", "after nine", "in winter", "at low water", "on the third day")


def made_text(frame: PromptFrame, tokens: int, seed: int = 0) -> str:
    """Make a text of exactly so many tokens, 1 or more."""
    drawn = random.Random(seed)  # noqa: S311  # nothing here is secret
    sentences = [_sentence(drawn) for _ in range(_SAMPLE)]
    each = len(frame.encode_with_offsets(" ".join(sentences))[0]) / _SAMPLE
    while True:
        # Hardly more than is needed: long texts take seconds to encode.
        missing = int(1.03 * tokens / each) + 1 - len(sentences)
        sentences.extend(_sentence(drawn) for _ in range(max(missing, tokens // 100)))
        text = " ".join(sentences)
        _, places = frame.encode_with_offsets(text)
        if len(places) < tokens:
            continue
        # A cut may change how its end is encoded; a few characters less will do.
        for end in range(places[tokens - 1][1], 0, -1):
            if len(frame.encode_with_offsets(text[:end])[0]) == tokens:
                return text[:end]


def _sentence(drawn: random.Random) -> str:
    number = drawn.randrange(2, 900)
    parts = (_WHO, _DID, _WHAT, _WHEN)
    who, did, what, when = (drawn.choice(part) for part in parts)
    return f"{who.capitalize()} {did} {what} number {number} {when}."
