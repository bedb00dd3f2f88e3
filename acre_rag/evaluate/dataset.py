"""Questions over whole documents, read from JSON lines."""

import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from acre_rag.errors import DocumentError

Span = tuple[int, int]
"""First character and the one after the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question with its gold answers, and where in its document they lie.

    Attributes:
        id: Names the question.
        text: What is asked.
        answers: Gold answers, one or more, none blank.
        choices: What may be answered, where that is a choice.
        evidence: Parts of the document that hold the answer; empty where that is not known.
        occurrences: Places where an answer stands word for word, within the evidence where that is
            known; the one that an annotator marked first.
        marked: Whether the first occurrence was marked by an annotator.
        bm25_rank: Rank of the gold paragraph in its document by word search, where known.
    """

    id: str
    text: str
    answers: tuple[str, ...]
    choices: tuple[str, ...] = ()
    evidence: tuple[Span, ...] = ()
    occurrences: tuple[Span, ...] = ()
    marked: bool = False
    bm25_rank: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QADocument:
    """A whole document and questions about it.

    Attributes:
        id: Names the document.
        text: All of it.
        questions: In the order of the file.
        unanswered: Questions that were left out since no gold answer came with them.
    """

    id: str
    text: str
    questions: tuple[Question, ...]
    unanswered: int = 0


def load_dataset(path: Path) -> list[QADocument]:
    """Read a data set, gzipped or not, one document a line; `kv-retrieval` has its own fields.

    Raises:
        DocumentError: The file cannot be read, a line is malformed, or there is no question.
    """
    documents = []
    for number, line in _lines(path):
        try:
            documents.append(_document(line))
        except (KeyError, TypeError, ValueError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise DocumentError(
                f"{path}, line {number}: {what}; expected a document with id, context and qas, "
                "each of id, question and answers: mend the line or take it out"
            ) from error
    if not any(document.questions for document in documents):
        raise DocumentError(f"{path} holds no question with an answer; expected some: check it")
    return documents


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    number = 0
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, json.loads(line)
    except (OSError, EOFError, ValueError) as error:
        raise DocumentError(
            f"{path}, behind line {number}: {error}; expected one JSON object a line, in UTF-8: "
            "mend the file"
        ) from error


def _document(line: Mapping[str, object]) -> QADocument:
    if not isinstance(line, Mapping):
        raise TypeError(f"found {str(line)[:40]!r}")
    if "ordered_kv_records" in line:
        return _records(line)
    text = _string(line["context"], "context")
    asked = line["qas"]
    if not isinstance(asked, list):
        raise TypeError(f"qas is of type {type(asked).__name__}")
    parts = {separator: _parts(text, separator) for separator in ("\n\n", "\n")}
    found = [_question(one, text, parts) for one in asked]
    questions = tuple(question for question in found if question is not None)
    return QADocument(
        id=_string(line["id"], "id"),
        text=text,
        questions=questions,
        unanswered=len(found) - len(questions),
    )


def _question(
    asked: Mapping[str, object], text: str, parts: Mapping[str, Sequence[Span]]
) -> Question | None:
    """Read a question; `None` where no gold answer, or no question, comes with it."""
    wording = _string(asked["question"], "question").strip()
    given = asked["answers"]
    if not isinstance(given, list):
        raise TypeError(f"answers is of type {type(given).__name__}")
    answers = tuple(stripped for answer in given if (stripped := str(answer).strip()))
    if not answers or not wording:
        return None
    mark = _mark(asked.get("answer_start"), text, answers)
    evidence = _evidence(asked, parts, mark)
    within = evidence or ((0, len(text)),)
    rank = asked.get("bm25_rank")
    choices = asked.get("choices") or asked.get("options") or ()
    return Question(
        id=_string(asked["id"], "id"),
        text=wording,
        answers=answers,
        choices=tuple(str(choice) for choice in choices),  # type: ignore[attr-defined]
        evidence=evidence,
        occurrences=_occurrences(answers, text, within, mark),
        marked=mark is not None,
        bm25_rank=None if rank is None else _integer(rank),
    )


def _mark(start: object, text: str, answers: Sequence[str]) -> Span | None:
    if start is None:
        return None
    place = _integer(start)
    standing = [answer for answer in answers if text.startswith(answer, place)]
    return (place, place + len(standing[0])) if standing else None


def _evidence(
    asked: Mapping[str, object], parts: Mapping[str, Sequence[Span]], mark: Span | None
) -> tuple[Span, ...]:
    """Find the gold parts of a document: a paragraph, sections, or runs of turns."""
    paragraphs, turns = parts["\n\n"], parts["\n"]
    if asked.get("paragraph") is not None:
        return (_part(paragraphs, _integer(asked["paragraph"])),)
    if asked.get("sections"):
        named = sorted({_integer(place) for place in asked["sections"]})  # type: ignore[attr-defined]
        return tuple(_part(paragraphs, place) for place in named)
    if asked.get("turns"):
        pairs = [[_integer(place) for place in pair] for pair in asked["turns"]]  # type: ignore[attr-defined]
        last = len(turns) - 1  # some annotations end one turn behind the last
        return tuple((_part(turns, a)[0], _part(turns, min(b, last))[1]) for a, b in pairs)
    if mark is not None:
        return tuple((a, b) for a, b in paragraphs if a <= mark[0] < b)
    return ()


def _occurrences(
    answers: Sequence[str], text: str, within: Sequence[Span], mark: Span | None
) -> tuple[Span, ...]:
    found = [] if mark is None else [mark]
    for answer in answers:
        word = re.compile(rf"(?<!\w){re.escape(answer)}(?!\w)", re.IGNORECASE)
        for start, end in within:
            found.extend(match.span() for match in word.finditer(text, start, end))
    return tuple(dict.fromkeys(found))


def _records(line: Mapping[str, object]) -> QADocument:
    """Write the records of a `kv-retrieval` line as JSON, and ask for the value of its key."""
    records = dict(line["ordered_kv_records"])  # type: ignore[call-overload]
    text = "{" + ",\n ".join(f'"{key}": "{value}"' for key, value in records.items()) + "}"
    key, value = _string(line["key"], "key"), _string(line["value"], "value")
    if records.get(key) != value:
        raise ValueError(f"key {key!r} has not the value {value!r} among the records")
    opening = f'"{key}": "'
    start = text.index(opening) + len(opening)
    place = (start, start + len(value))
    asked = Question(
        id=_string(line["id"], "id"),
        text=f'What is the value of the key "{key}"?',
        answers=(value,),
        evidence=(place,),
        occurrences=(place,),
        marked=True,
    )
    return QADocument(id=asked.id, text=text, questions=(asked,))


def _parts(text: str, separator: str) -> list[Span]:
    starts, parts = 0, []
    for part in text.split(separator):
        parts.append((starts, starts + len(part)))
        starts += len(part) + len(separator)
    return parts


def _part(parts: Sequence[Span], place: int) -> Span:
    if not 0 <= place < len(parts):
        raise ValueError(f"part {place} is named as evidence, and there are {len(parts)}")
    return parts[place]


def _string(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} is of type {type(value).__name__}")
    return value


def _integer(value: object) -> int:
    if not isinstance(value, (int, str)) or isinstance(value, bool):
        raise TypeError(f"found {value!r} where a number was expected")
    return int(value)
