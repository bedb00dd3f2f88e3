"""JSON-lines texts and questions to packs of token ids."""

import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from acre_rag.errors import BudgetError, DocumentError
from acre_rag.model.prompt import PromptFrame
from acre_rag.text.tokens import TokenizedText, tokenize
from acre_rag.train.packs import QuestionPack, Ragged

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
    for number, line in enumerate(read_lines(path)):
        pieces, starts = _pieces(line)
        text = tokenize(str(line["context"]), frame)
        firsts = [int(np.searchsorted(text.starts, start)) for start in starts]
        bounds = [*firsts, len(text.ids)]
        offset = len(columns.pieces)
        columns.pieces.extend(text.ids[a:b].tolist() for a, b in pairwise(bounds))
        columns.piece_document.extend([number] * len(pieces))
        for asked in line["qas"]:  # type: ignore[attr-defined]
            found = _evidence(asked, len(pieces))
            if found is None:
                continue
            answer = frame.encode_with_offsets(str(asked["answers"][0]))[0]
            if not 0 < len(answer) <= answer_tokens:
                continue
            try:
                rows = frame.question_rows(str(asked["question"]).strip(), instructions)
            except BudgetError:
                continue
            if len(rows.ids) > MAX_ROWS:
                continue
            first, last = found
            spans = _occurrences(asked, str(line["context"]), starts, found, text, bounds)
            columns.rows.append(rows.ids)
            columns.asked.append((rows.question.start, rows.question.stop))
            columns.answers.append(answer)
            columns.evidence.append((offset + first, offset + last))
            columns.spans.append(spans)
            columns.rank.append(int(asked.get("bm25_rank") or 1))
            kept.append({"id": asked["id"], "answers": asked["answers"]})
    return _pack(columns), kept


def read_lines(path: Path) -> Iterator[Mapping[str, object]]:
    """Read JSON lines, gzipped or not.

    Raises:
        DocumentError: The file or a line of it cannot be read.
    """
    number = 0
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):  # noqa: B007
                if line.strip():
                    yield json.loads(line)
    except (OSError, ValueError) as error:
        raise DocumentError(
            f"{path}, line {number}: {error}; expected one JSON object a line: mend the file"
        ) from error


def _texts(path: Path) -> Iterator[str]:
    if path.suffix in {".txt", ".md"}:
        yield path.read_text(encoding="utf-8")
        return
    for line in read_lines(path):
        yield str(line.get("text") or line["context"])


def _pieces(line: Mapping[str, object]) -> tuple[list[str], list[int]]:
    """Split a document at its own separator: pieces, and their first characters."""
    questions = line["qas"]
    by_turn = any("turns" in asked for asked in questions)  # type: ignore[attr-defined]
    separator = "\n" if by_turn else "\n\n"
    pieces = str(line["context"]).split(separator)
    starts = np.cumsum([0, *(len(piece) + len(separator) for piece in pieces[:-1])])
    return pieces, starts.tolist()


def _evidence(asked: Mapping[str, object], pieces: int) -> tuple[int, int] | None:
    if asked.get("paragraph") is not None:
        first = last = int(asked["paragraph"])  # type: ignore[call-overload]
    elif asked.get("sections"):
        sections = [int(section) for section in asked["sections"]]  # type: ignore[attr-defined]
        first, last = min(sections), max(sections)
    elif asked.get("turns"):
        turns = [int(turn) for pair in asked["turns"] for turn in pair]  # type: ignore[attr-defined]
        first, last = min(turns), max(turns)
    else:
        return None
    return (first, last + 1) if first <= last < pieces else None


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
