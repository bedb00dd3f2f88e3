"""Tokenized data on disk: texts as one stream, questions with the pieces they were asked of.

Tokenizing takes longer than many a training run, so it is done once, ahead.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from acre_rag.errors import DocumentError

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ragged:
    """Rows of different lengths.

    Attributes:
        values: All rows, one behind the other.
        ends: End of each row, (rows,), int64.
    """

    values: NDArray[np.generic]
    ends: Ids

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, row: int) -> Ids:
        start = int(self.ends[row - 1]) if row else 0
        return self.values[start : int(self.ends[row])].astype(np.int64)

    @property
    def lengths(self) -> Ids:
        """Length of each row."""
        return np.diff(self.ends, prepend=0)

    @staticmethod
    def of(rows: Sequence[Sequence[int]], dtype: type[np.generic]) -> "Ragged":
        """Join rows."""
        ends = np.cumsum([len(row) for row in rows], dtype=np.int64)
        joined = [np.asarray(row, dtype=dtype) for row in rows]
        return Ragged(np.concatenate(joined) if joined else np.zeros(0, dtype), ends)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionPack:
    """Documents in pieces (paragraphs, sections, turns), and questions about them.

    Attributes:
        pieces: Token ids of each piece, its separator included.
        piece_document: Document of each piece, rising, (pieces,).
        rows: Token ids that follow the documents for each question.
        asked: Where the question's own tokens begin and end in its rows, (questions, 2).
        answers: Token ids of each answer, without the end of the turn.
        evidence: First piece of the gold evidence and the one after its last, (questions, 2).
        spans: Tokens of each gold occurrence, as start, end, start, end..., counted from the
            evidence's first piece; none where the whole evidence is gold.
        rank: How well word search tells the gold piece from the others of its document, 1 being
            best, (questions,).
    """

    pieces: Ragged
    piece_document: Ids
    rows: Ragged
    asked: Ids
    answers: Ragged
    evidence: Ids
    spans: Ragged
    rank: Ids

    @property
    def documents(self) -> int:
        """Number of documents."""
        return int(self.piece_document[-1]) + 1 if len(self.piece_document) else 0

    def save(self, path: Path) -> None:
        """Write the pack to a file."""
        tensors: dict[str, NDArray[np.generic]] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Ragged):
                tensors |= {f"{field.name}.values": value.values, f"{field.name}.ends": value.ends}
            else:
                tensors[field.name] = value
        save_file(tensors, path)

    @staticmethod
    def load(path: Path) -> "QuestionPack":
        """Read a pack from a file.

        Raises:
            DocumentError: It is missing or no question pack.
        """
        tensors = _load(path)
        try:
            found = {
                field.name: tensors[field.name]
                if field.name in tensors
                else Ragged(tensors[f"{field.name}.values"], tensors[f"{field.name}.ends"])
                for field in fields(QuestionPack)
            }
        except KeyError as error:
            raise DocumentError(
                f"{path} has no {error.args[0]}; expected a question pack: prepare it again"
            ) from error
        return QuestionPack(**found)  # type: ignore[arg-type]


def save_texts(texts: Ragged, path: Path) -> None:
    """Write tokenized texts to a file."""
    save_file({"values": texts.values, "ends": texts.ends}, path)


def load_texts(path: Path) -> Ragged:
    """Read tokenized texts from a file.

    Raises:
        DocumentError: It is missing or no text pack.
    """
    tensors = _load(path)
    if set(tensors) != {"values", "ends"}:
        raise DocumentError(
            f"{path} holds {sorted(tensors)}; expected values and ends: prepare it again"
        )
    return Ragged(tensors["values"], tensors["ends"])


def _load(path: Path) -> dict[str, NDArray[Any]]:
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise DocumentError(
            f"{path} cannot be read ({error}); expected a file made by the prepare command"
        ) from error
