"""Measured constants of a machine: seconds as functions of tokens and bytes."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import TypeVar, get_type_hints

SPEEDS_FORMAT = 2
"""Raised whenever what the constants mean, or how they are measured, changes."""

SAMPLE_BYTES = 4 * 2**20
_Kind = TypeVar("_Kind")


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Seconds of something whose cost grows with its tokens, and with their square.

    Attributes:
        fixed: Seconds whatever the number.
        per_token: Seconds a token.
        per_pair: Seconds for each token and token that it may attend to: the square's factor.
    """

    fixed: float
    per_token: float
    per_pair: float = 0.0

    def seconds(self, tokens: float) -> float:
        """Predict the seconds for so many tokens."""
        return self.fixed + self.per_token * tokens + self.per_pair * tokens**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """Seconds of a few rows through the model, behind what is remembered.

    Attributes:
        fixed: Seconds whatever the numbers.
        per_row: Seconds for each token that goes through the model.
        per_remembered: Seconds for each token or landmark before them.
    """

    fixed: float
    per_row: float
    per_remembered: float

    def seconds(self, rows: float, remembered: float) -> float:
        """Predict the seconds for so many rows behind so many tokens."""
        return self.fixed + self.per_row * rows + self.per_remembered * remembered


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpeeds:
    """What a model costs on this machine, as the engine uses it.

    Attributes:
        prefill: A prompt of so many tokens, from its text to the first token of the answer.
        encode: Reading so many tokens of a document in windows.
        select: A question over landmarks, and their scores.
        answer: A refilled cache of so many tokens, spliced and rotated, the question over it, to
            the first token.
        step: Each further token, behind so many.
        restore_l1: Seconds to turn a stored byte of L1 into keys and values on the device.
        restore_l2: The same of L2, dequantized where it is quantized.
    """

    prefill: Curve
    encode: Curve
    select: Pass
    answer: Pass
    step: Curve
    restore_l1: float
    restore_l2: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSpeeds:
    """What reading from a store costs, checksums included.

    Attributes:
        per_value: Seconds for each value: its latency.
        per_byte: Seconds for each byte.
        sampled_bytes: Bytes that were read to find out.
    """

    per_value: float
    per_byte: float
    sampled_bytes: float

    def seconds(self, values: float, size: float) -> float:
        """Predict the seconds to read so many values of so many bytes together."""
        return self.per_value * values + self.per_byte * size

    def suffices(self, size: int) -> bool:
        """Tell whether enough was read to speak of so many bytes."""
        return self.sampled_bytes >= min(size, SAMPLE_BYTES)


def as_plain(speeds: ModelSpeeds | StoreSpeeds) -> dict[str, object]:
    """Turn constants into what JSON can hold."""
    return asdict(speeds)


def from_plain(kind: type[_Kind], plain: object) -> _Kind:
    """Make constants of what JSON held.

    Raises:
        ValueError: Fields are missing or too many, or one is no finite number of 0 or more.
    """
    names = {entry.name for entry in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    if not isinstance(plain, Mapping) or plain.keys() != names:
        raise ValueError(f"found {plain!r:.200}; expected the fields {', '.join(sorted(names))}")
    hints = get_type_hints(kind)
    values = {
        name: from_plain(hints[name], value) if is_dataclass(hints[name]) else _number(value)
        for name, value in plain.items()
    }
    return kind(**values)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"found {value!r:.80}; expected a number")  # noqa: TRY004  # of a file
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"found {value}; expected a finite number of 0 or more")
    return float(value)
