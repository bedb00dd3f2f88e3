"""JSON-lines texts and questions to packs of token ids."""

import gzip
import json
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from acre_rag.errors import ConfigError, DocumentError
from acre_rag.model.prompt import PromptFrame
from acre_rag.text.tokens import TokenizedText, tokenize
from acre_rag.train.packs import QuestionPack, Ragged

_log = logging.getLogger(__name__)
_DOCUMENT = "a document with context and qas, each of id, question and answers"
MAX_ROWS = 160  # of one question: longer ones would pad all others of their batch


@dataclass(slots=True)
class _Columns:
    """A question pack in the making."""

    pieces: list[list[int]] = field(default_factory=list)
    piece_document: list[int] = field(default_factory=list)
    rows: list[list[int]] = field(default_factory=list)
    asked: list[tuple[int, int]] = field(default_factory=list)
    answers: list[list[int]] = field(default_factory=list)
    evidence: list[tuple[int, int]] = field(default_factory=list)
    spans: list[list[int]] = field(default_factory=list)
    rank: list[int] = field(default_factory=list)


def pack_texts(
    paths: Sequence[Path], frame: PromptFrame, *, skip_last: int = 0, only_last: int = 0
) -> Ragged:
    """Tokenize texts: a `text` or `context` a line, or plain text files.

    Args:
        paths: Files to read.
        frame: Tokenizer.
        skip_last: Texts to leave out at the end of each file, for validation.
        only_last: Take these alone, where not 0.
    """
    found: list[list[int]] = []
    for path in paths:
        texts = list(_texts(path))
        kept = texts[: len(texts) - skip_last][-only_last:]
        found.extend(frame.encode_with_offsets(text)[0] for text in kept)
    return Ragged.of(found, np.uint16 if _fits(found) else np.int32)


def pack_questions(
    path: Path, frame: PromptFrame, *, answer_tokens: int, instructions: str | None = None
) -> tuple[QuestionPack, list[dict[str, object]]]:
    """Tokenize documents and questions.

    Questions whose evidence is not known, or whose answer or rows are too long, are left out.

    Args:
        path: JSON lines: `id`, `context`, `qas` with `question`, `answers` and their evidence
            (`paragraph` and `answer_start`, `sections`, or `turns`).
        frame: Tokenizer and prompt.
        answer_tokens: Longest answer to keep.
        instructions: Follow the question in place of the prompt's own.

    Returns:
        The pack, and of each question in it the id and the answers.
    """
    columns, kept = _Columns(), []
    left_out: Counter[str] = Counter()
    for number, line in read_lines(path):
        with _named(path, number):
            _check_line(line)
            kept += _pack_document(line, columns, frame, answer_tokens, instructions, left_out)
    for reason, count in left_out.items():
        _log.warning("%s: left out %d questions: %s", path.name, count, reason)
    if not kept:
        reasons = ", ".join(f"{count} whose {reason}" for reason, count in left_out.items())
        raise DocumentError(
            f"{path} has no question to train on ({reasons or 'it has none at all'}); expected "
            "questions with answers that stand in their documents: add some"
        )
    return _pack(columns), kept


def _pack_document(  # one document of `pack_questions`
    line: Mapping[str, object],
    columns: _Columns,
    frame: PromptFrame,
    answer_tokens: int,
    instructions: str | None,
    left_out: Counter[str],
) -> list[dict[str, object]]:
    """Tokenize one document and its questions into the columns; gives what was kept of them."""
    kept: list[dict[str, object]] = []
    pieces, starts = _pieces(line)
    context = str(line["context"])
    text = tokenize(context, frame)
    bounds = [*(int(np.searchsorted(text.starts, start)) for start in starts), len(text.ids)]
    offset = len(columns.pieces)
    columns.pieces.extend(text.ids[a:b].tolist() for a, b in pairwise(bounds))
    document = columns.piece_document[-1] + 1 if columns.piece_document else 0
    columns.piece_document.extend([document] * len(pieces))
    for asked in line["qas"]:  # type: ignore[attr-defined]
        if not any(str(answer).strip() for answer in asked["answers"]):
            left_out["answer is empty"] += 1
            continue
        found = _evidence(asked, pieces)
        if found is None:
            left_out["answer is not in the text, nor any evidence named"] += 1
            continue
        answer = frame.encode_with_offsets(str(asked["answers"][0]))[0]
        if not 0 < len(answer) <= answer_tokens:
            left_out[f"answer is empty, or longer than {answer_tokens} tokens"] += 1
            continue
        rows = frame.question_rows(str(asked["question"]).strip(), instructions)
        if len(rows.ids) > MAX_ROWS:
            left_out[f"rows are more than {MAX_ROWS}"] += 1
            continue
        columns.rows.append(rows.ids)
        columns.asked.append((rows.question.start, rows.question.stop))
        columns.answers.append(answer)
        columns.evidence.append((offset + found[0], offset + found[1]))
        columns.spans.append(_occurrences(asked, context, starts, found, text, bounds))
        columns.rank.append(int(asked.get("bm25_rank") or 1))
        kept.append({"id": asked["id"], "answers": asked["answers"]})
    return kept


def _check_line(line: object) -> None:
    """See that a line has the fields of a document with questions.

    Raises:
        TypeError: One is of another type.
        KeyError: One is missing.
    """
    if not isinstance(line, Mapping):
        raise TypeError(f"found {str(line)[:40]!r}")
    for where, name, kind in [
        (line, "context", str),
        (line, "qas", list),
        *((asked, name, str) for asked in line["qas"] for name in ("question",)),
        *((asked, "answers", list) for asked in line["qas"]),
    ]:
        if not isinstance(where[name], kind):
            raise TypeError(f"{name} is of type {type(where[name]).__name__}")


@contextmanager
def _named(path: Path, number: int, expected: str = _DOCUMENT) -> Iterator[None]:
    """Name file and line where a document is malformed.

    Raises:
        DocumentError: It is.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, ConfigError, DocumentError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise DocumentError(
            f"{path}:{number}: {what}; expected {expected}: mend the line or take it out"
        ) from error


def read_lines(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Read JSON lines, gzipped or not, each with its number.

    Raises:
        DocumentError: The file or a line of it cannot be read.
    """
    number = 0
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines):
                if line.strip():
                    yield number + 1, json.loads(line)
    except (OSError, ValueError) as error:
        raise DocumentError(
            f"{path}:{number + 1}: {error}; expected one JSON object a line: mend the file"
        ) from error


def _texts(path: Path) -> Iterator[str]:
    if path.suffix in {".txt", ".md"}:
        yield path.read_text(encoding="utf-8")
        return
    for number, line in read_lines(path):
        with _named(path, number, "a text, or a document with a context"):
            yield str(line.get("text") or line["context"])


def _pieces(line: Mapping[str, object]) -> tuple[list[str], list[int]]:
    """Split a document at its own separator: pieces, and their first characters."""
    questions = line["qas"]
    by_turn = any("turns" in asked for asked in questions)  # type: ignore[attr-defined]
    separator = "\n" if by_turn else "\n\n"
    pieces = str(line["context"]).split(separator)
    starts = np.cumsum([0, *(len(piece) + len(separator) for piece in pieces[:-1])])
    return pieces, starts.tolist()


def _evidence(asked: Mapping[str, object], pieces: Sequence[str]) -> tuple[int, int] | None:
    """Find the pieces that hold the answer: as named, or the only one in which it stands."""
    if asked.get("paragraph") is not None:
        first = last = int(asked["paragraph"])  # type: ignore[call-overload]
    elif asked.get("sections"):
        sections = [int(section) for section in asked["sections"]]  # type: ignore[attr-defined]
        first, last = min(sections), max(sections)
    elif asked.get("turns"):
        turns = [int(turn) for pair in asked["turns"] for turn in pair]  # type: ignore[attr-defined]
        first, last = min(turns), max(turns)
    else:
        word = re.compile(rf"(?<!\w){re.escape(str(asked['answers'][0]).strip())}(?!\w)")  # type: ignore[index]
        holding = [place for place, piece in enumerate(pieces) if word.search(piece)]
        if len(holding) != 1:
            return None
        first = last = holding[0]
    return (first, last + 1) if first <= last < len(pieces) else None


def _occurrences(
    asked: Mapping[str, object],
    context: str,
    starts: Sequence[int],
    evidence: tuple[int, int],
    text: TokenizedText,
    bounds: Sequence[int],
) -> list[int]:
    """Find the answers in the evidence: tokens from the evidence's first on, start, end, ...

    The occurrence that the annotator marked comes first.
    """
    begin = starts[evidence[0]]
    end = starts[evidence[1]] if evidence[1] < len(starts) else len(context)
    places: list[tuple[int, int]] = []
    answers = [str(answer) for answer in asked["answers"] if answer]  # type: ignore[attr-defined]
    marked = asked.get("answer_start")
    if marked is not None:
        _check_mark(int(marked), answers, context)  # type: ignore[call-overload]
        places.append((int(marked), int(marked) + len(answers[0])))  # type: ignore[call-overload]
    for answer in answers:
        word = re.compile(rf"(?<!\w){re.escape(answer)}(?!\w)", re.IGNORECASE)
        places.extend(match.span() for match in word.finditer(context, begin, end))
    if marked is None and len(set(places)) > 1:
        return []  # which of them was meant is not known: all of the evidence is gold
    spans: list[int] = []
    for start, stop in dict.fromkeys(places):
        first = int(np.searchsorted(text.ends, start, side="right"))
        last = int(np.searchsorted(text.starts, stop, side="left"))
        origin = bounds[evidence[0]]
        spans.extend((first - origin, max(last, first + 1) - origin))
    return spans


def _check_mark(place: int, answers: Sequence[str], context: str) -> None:
    """See that an answer stands where it is marked.

    Raises:
        ValueError: Another text stands there.
    """
    if not any(context.startswith(answer, place) for answer in answers):
        there = context[place : place + len(answers[0])]
        raise ValueError(f"answer {answers[0]!r} is marked at {place}, where {there!r} stands")


def _pack(columns: _Columns) -> QuestionPack:
    dtype = np.uint16 if _fits(columns.pieces) and _fits(columns.rows) else np.int32
    return QuestionPack(
        pieces=Ragged.of(columns.pieces, dtype),
        piece_document=np.asarray(columns.piece_document, np.int64),
        rows=Ragged.of(columns.rows, dtype),
        asked=np.asarray(columns.asked, np.int64).reshape(-1, 2),
        answers=Ragged.of(columns.answers, dtype),
        evidence=np.asarray(columns.evidence, np.int64).reshape(-1, 2),
        spans=Ragged.of(columns.spans, np.int32),
        rank=np.asarray(columns.rank, np.int64),
    )


def _fits(rows: Sequence[Sequence[int]]) -> bool:
    return max((max(row, default=0) for row in rows), default=0) < 2**16
