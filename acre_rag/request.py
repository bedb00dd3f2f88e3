"""What a caller asks for, checked before a model is loaded: it costs nothing to say no early."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from acre_rag.config import RefillTokens
from acre_rag.errors import BudgetError, ConfigError, DocumentError
from acre_rag.text.document import Document

DEFAULT_NEW_TOKENS = 64
DEFAULT_COMPLETION_TOKENS = 256
USUAL_QUESTION = "What does the text say about the matter at hand?"
"""Stands for a question that is not known yet: about as long as most are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One question, as it was put.

    Attributes:
        question: The user's question.
        documents: Ids to ask, in that order, as `checked_ids` gives them; `None` asks all.
        refill_tokens: Most raw tokens to refill; `None` takes the default, `auto` what is needed.
        max_new_tokens: Longest answer; `None` where only places are asked for.
        instructions: Replaces the prompt's own.

    Raises:
        ConfigError: One of them makes no sense, whatever the model and the store.
    """

    question: str
    documents: tuple[str, ...] | None = None
    refill_tokens: RefillTokens = None
    max_new_tokens: int | None = DEFAULT_NEW_TOKENS
    instructions: str | None = None

    def __post_init__(self) -> None:
        check_question(self.question)
        check_instructions(self.instructions)
        check_refill_tokens(self.refill_tokens)
        if self.max_new_tokens is not None:
            check_new_tokens(self.max_new_tokens)


@contextmanager
def about_question(place: int, count: int) -> Iterator[None]:
    """Let errors say which of several questions they are about; `place` counts from 0."""
    try:
        yield
    except (ConfigError, BudgetError) as error:
        error.args = (f"question {place + 1} of {count}: {error}",)
        raise


def checked_questions(questions: object) -> list[str]:
    """Take several questions, none of them empty; there may be none.

    Raises:
        ConfigError: They are no collection, or one of them is no question.
    """
    if isinstance(questions, str) or not isinstance(questions, Iterable):
        raise ConfigError(
            f"questions is of type {type(questions).__name__}; expected several strings: put it "
            "into a list"
        )
    given = list(questions)
    for place, question in enumerate(given):
        with about_question(place, len(given)):
            check_question(question)
    return given


def check_question(question: object) -> None:
    """Refuse a question that holds no words.

    Raises:
        ConfigError: It is empty, blank, no string, or nothing that UTF-8 can hold.
    """
    _check_text("the question", question)
    if not str(question).strip():
        raise ConfigError("the question is empty; expected some words: ask something")


def check_instructions(instructions: object) -> None:
    """Refuse instructions that are no text; `None` keeps the prompt's own.

    Raises:
        ConfigError: They are no string, or nothing that UTF-8 can hold.
    """
    if instructions is not None:
        _check_text("instructions", instructions)


def check_refill_tokens(refill_tokens: object) -> None:
    """Refuse a budget that no document could be given; `None` and `auto` find one themselves.

    Raises:
        ConfigError: It is neither `auto` nor a whole number, or below 0.
    """
    if refill_tokens is not None and refill_tokens != "auto":
        _check_count("refill_tokens", refill_tokens, least=0, else_="or leave it out")


def check_new_tokens(max_new_tokens: object) -> None:
    """Refuse an answer of no length.

    Raises:
        ConfigError: It is no whole number, or below 1.
    """
    _check_count("max_new_tokens", max_new_tokens, least=1)


def check_source_count(sources: object) -> None:
    """Refuse a number of sources below one; `None` gives the runs as they are.

    Raises:
        ConfigError: It is no whole number, or below 1.
    """
    if sources is not None:
        _check_count("sources", sources, least=1, else_="or leave it out")


def checked_ids(documents: object) -> tuple[str, ...] | None:
    """Take ids of documents, each once; one may come without a list, `None` stands for all.

    Raises:
        ConfigError: There is none, or one is no string or empty.
    """
    if documents is None:
        return None
    ids = [documents] if isinstance(documents, str) else documents
    if not isinstance(ids, Iterable):
        found = type(ids).__name__
        raise ConfigError(f"documents is of type {found}; expected ids, or None for all: name one")
    named = tuple(ids)
    if not named:
        raise ConfigError("documents is empty; expected ids, or None to ask all: name one")
    for name in named:
        if name == "":
            raise ConfigError(
                "found an empty document id; expected one or more characters: name it"
            )
        if not isinstance(name, str):
            raise ConfigError(
                f"documents holds {name!r:.80}, of type {type(name).__name__}; expected ids, "
                "which are strings: pass document.id"
            )
    return tuple(dict.fromkeys(named))


def checked_documents(documents: object) -> Iterator[Document]:
    """Take the documents to read, one by one; one may come without a list.

    Raises:
        DocumentError: One of them is no `Document`, or has the id of one before it.
    """
    given = [documents] if isinstance(documents, Document) else documents
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise _no_document(given)
    seen: set[str] = set()
    for document in given:
        if not isinstance(document, Document):
            raise _no_document(document)
        if document.id in seen:
            raise DocumentError(
                f"document {document.id!r} comes twice; expected ids that differ: rename one "
                "of the two (those before it are stored)"
            )
        seen.add(document.id)
        yield document


def _no_document(found: object) -> DocumentError:
    return DocumentError(
        f"found {found!r:.80}, of type {type(found).__name__}, to be read; expected "
        "Document(id=..., text=...): make one of it, or read files with read_documents"
    )


def _check_text(what: str, text: object) -> None:
    if not isinstance(text, str):
        raise ConfigError(f"{what} is of type {type(text).__name__}; expected a string: pass text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{what} has half a surrogate pair at character {error.start}; expected text that "
            "UTF-8 can hold: decode its bytes as what they are"
        ) from error


def _check_count(what: str, count: object, *, least: int, else_: str = "") -> None:
    if isinstance(count, bool) or not isinstance(count, int):
        raise ConfigError(
            f"{what} is {count!r:.80}, of type {type(count).__name__}; expected a whole number: "
            "pass an int"
        )
    if count < least:
        rest = f", {else_}" if else_ else ""
        raise ConfigError(f"{what} is {count}; expected {least} or more: raise it{rest}")
