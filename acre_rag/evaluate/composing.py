"""Documents of a wanted length, and which of their questions are asked."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from acre_rag.errors import ConfigError
from acre_rag.evaluate.dataset import QADocument, Question
from acre_rag.text.tokens import OffsetTokenizer, TokenizedText, tokenize

MOST_AMBIGUOUS_RANK = 3
"""A question asked of one paragraph makes sense for a whole article where word search finds it."""

_SEPARATOR = "\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposedDocument:
    """A document cut, or filled up, to a wanted length.

    Attributes:
        id: Id of the document it begins with.
        text: What is read.
        tokens: The same, as token ids.
        questions: Questions about the document it begins with, whose gold lies inside.
    """

    id: str
    text: str
    tokens: TokenizedText
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Which questions are asked, of documents how long.

    Attributes:
        max_document_tokens: Documents are cut to so many tokens, shorter ones filled up with
            others of the set; `None` takes them as they are.
        questions_within: Only questions whose gold lies within so many tokens are asked, so that
            documents of several lengths are asked the same; `None` takes the whole document.
        limit: Most questions in all.
        questions_per_document: Most questions of one document: documents are then taken in random
            order, as many as give `limit`. `None` draws from all questions alike.
        seed: Of the draws.
    """

    max_document_tokens: int | None = 4096
    questions_within: int | None = None
    limit: int | None = 200
    questions_per_document: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (
            "max_document_tokens", "questions_within", "limit", "questions_per_document",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; expected 1 or more: raise it")


def compose(
    documents: Sequence[QADocument], tokenizer: OffsetTokenizer, sampling: Sampling
) -> list[ComposedDocument]:
    """Cut or fill up documents, and draw questions; those of which nothing is asked are left out.

    Raises:
        ConfigError: No question is left.
    """
    lengths: dict[int, int] = {}
    composed = [
        _compose(documents, index, tokenizer, sampling, lengths)
        for index, document in enumerate(documents)
        if document.questions
    ]
    drawn = _draw([document.questions for document in composed], sampling)
    asked = [
        replace(document, questions=questions)
        for document, questions in zip(composed, drawn, strict=True)
        if questions
    ]
    if not asked:
        raise ConfigError(
            f"no question has its gold answer within the first {sampling.max_document_tokens} "
            "tokens of its document; expected some: raise max_document_tokens"
        )
    return asked


def _compose(
    documents: Sequence[QADocument],
    index: int,
    tokenizer: OffsetTokenizer,
    sampling: Sampling,
    lengths: dict[int, int],
) -> ComposedDocument:
    wanted = sampling.max_document_tokens
    texts: list[str] = []
    missing = wanted or 1
    for number in _in_turn(index, len(documents)):
        if missing <= 0:
            break
        texts.append(documents[number].text)
        if number not in lengths:
            lengths[number] = len(tokenize(documents[number].text, tokenizer).ids)
        missing -= lengths[number]
        if wanted is None:
            break
    text = _SEPARATOR.join(texts)
    tokens = tokenize(text, tokenizer)
    while wanted is not None and len(tokens.ids) > wanted:
        # A word that was cut may take more tokens than it did: then it is cut again.
        text = text[: int(tokens.ends[wanted - 1])]
        tokens = tokenize(text, tokenizer)
    within = min(sampling.questions_within or len(tokens.ids), len(tokens.ids))
    reach = int(tokens.ends[within - 1])
    own = documents[index]
    questions = [_inside(question, own.text, reach) for question in own.questions]
    return ComposedDocument(
        id=own.id,
        text=text,
        tokens=tokens,
        questions=tuple(question for question in questions if question is not None),
    )


def _in_turn(first: int, count: int) -> Iterator[int]:
    yield from (number % count for number in range(first, first + count))


def _inside(question: Question, text: str, reach: int) -> Question | None:
    """Keep what a cut document still has of a question's gold; `None` where it has lost it."""
    if (question.bm25_rank or 0) > MOST_AMBIGUOUS_RANK:
        return None
    if question.occurrences:
        left = tuple(span for span in question.occurrences if span[1] <= reach)
        lost = question.occurrences[0] not in left if question.marked else not left
        return None if lost else replace(question, occurrences=left)
    ends = [end for _, end in question.evidence] or [len(text)]
    return question if max(ends) <= reach else None


def _draw(
    questions: Sequence[Sequence[Question]], sampling: Sampling
) -> list[tuple[Question, ...]]:
    """Draw questions of each document, kept in the order of the file."""
    generator = random.Random(sampling.seed)  # noqa: S311  # it draws samples, and guards nothing
    pairs = [(number, place) for number, own in enumerate(questions) for place in range(len(own))]
    generator.shuffle(pairs)
    if sampling.questions_per_document is not None:
        pairs = _few_of_each(pairs, sampling.questions_per_document)
    kept = set(pairs[: sampling.limit])
    return [
        tuple(question for place, question in enumerate(own) if (number, place) in kept)
        for number, own in enumerate(questions)
    ]


def _few_of_each(pairs: Sequence[tuple[int, int]], most: int) -> list[tuple[int, int]]:
    """Take some of each document, document by document, in the order of their first."""
    by_document: dict[int, list[tuple[int, int]]] = {}
    for pair in pairs:
        by_document.setdefault(pair[0], []).append(pair)
    return [pair for own in by_document.values() for pair in own[:most]]
