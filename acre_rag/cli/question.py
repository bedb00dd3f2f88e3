"""`acre ask` and `acre chat`: questions over what is stored."""

import sys
from collections.abc import Iterator
from itertools import takewhile
from typing import TYPE_CHECKING, Annotated

import typer

from acre_rag.cli.failures import MisuseError, say
from acre_rag.cli.groups import ModelOptions, OutputOptions, QuestionOptions, StoreOptions
from acre_rag.cli.session import check_stored, opened_engine, opened_store
from acre_rag.cli.show import show_costs, show_json, show_sources
from acre_rag.errors import BudgetError, ConfigError
from acre_rag.request import check_instructions, check_question, checked_ids

if TYPE_CHECKING:
    from acre_rag.engine import ACREEngine

_LEAVE = ("exit", "quit")


def ask(
    question: Annotated[
        str,
        typer.Argument(metavar="QUESTION", help="What you want to know.", show_default=False),
    ],
    *,
    settings: QuestionOptions,
    place: StoreOptions,
    model: ModelOptions,
    output: OutputOptions,
) -> None:
    """Answer a question from documents that were read before.

    Nothing is read again: the question goes over the documents' landmarks, brings back what it
    needs, and the model answers from that. Ask with the model that read the documents.

    For example:

        acre ask "Who wrote the report?"
        acre ask "What does fault E-33 mean?" --document manual.md --document faq.md
        acre ask "Sum up the meeting." --instructions "Answer in three sentences."
        acre ask "Who wrote the report?" --json | jq .answer
    """
    _check(settings, question)
    with opened_store(place.store, place.key_file) as opened:
        check_stored(opened, settings.document)
        with opened_engine(opened, model, settings.selection, settings.policy) as engine:
            _answer(engine, question, settings, json=output.json)


def chat(
    *,
    settings: QuestionOptions,
    place: StoreOptions,
    model: ModelOptions,
    output: OutputOptions,
) -> None:
    """Ask several questions over the same documents, one a line.

    The model is loaded once. Every question stands for itself: it knows nothing of those before
    it. Ctrl-C stops an answer; 'exit', 'quit', Ctrl-D or the end of the input leaves.

    For example:

        acre chat --document manual.md
        acre chat --json < questions.txt > answers.jsonl
    """
    _check(settings)
    with opened_store(place.store, place.key_file) as opened:
        check_stored(opened, settings.document)
        with opened_engine(opened, model, settings.selection, settings.policy) as engine:
            for question in _questions():
                try:
                    _answer(engine, question, settings, json=output.json)
                except (BudgetError, ConfigError) as error:  # of this question alone
                    say(f"error: {error}")
                except KeyboardInterrupt:
                    if not sys.stdin.isatty():
                        raise
                    typer.echo(err=True)
                    say("stopped; ask on, or leave with Ctrl-D")


def _check(settings: QuestionOptions, question: str | None = None) -> None:
    """Refuse what makes no sense with any model, before one is loaded.

    Raises:
        MisuseError: The question is empty, or an option holds what cannot be meant.
    """
    try:
        if question is not None:
            check_question(question)
        check_instructions(settings.instructions)
        checked_ids(settings.document)
    except ConfigError as error:
        raise MisuseError(str(error)) from error


def _questions() -> Iterator[str]:
    """Take questions from the terminal, or from whatever else is the input."""
    if not sys.stdin.isatty():
        given = (line.strip() for line in sys.stdin)
        yield from takewhile(lambda line: line.lower() not in _LEAVE, filter(None, given))
        return
    import readline  # noqa: F401  # gives `input` its line editing

    say("ask a question; Ctrl-C stops an answer, 'exit' or Ctrl-D leaves")
    while True:
        if not sys.stdout.isatty():  # there, answers alone belong
            typer.echo("? ", nl=False, err=True)
        try:
            line = input("? " if sys.stdout.isatty() else "").strip()
        except EOFError:
            typer.echo(err=True)
            return
        except KeyboardInterrupt:
            typer.echo(err=True)
            raise
        if line.lower() in _LEAVE:
            return
        if line:
            yield line


def _answer(engine: "ACREEngine", question: str, settings: QuestionOptions, *, json: bool) -> None:
    """Show an answer as it comes, then where it is from and what it cost."""
    stream = engine.stream(
        question,
        settings.document,
        settings.refill_tokens,
        settings.max_new_tokens,
        settings.instructions,
    )
    with stream:
        begun = False
        for piece in stream:
            if json:
                continue
            text = piece if begun else piece.lstrip()
            begun = begun or bool(text)
            typer.echo(text, nl=False)
    if json:
        show_json(stream.answer.to_dict())
        return
    typer.echo("\n" if begun else "(the model gave no answer)\n")
    show_sources(stream.answer.sources)
    show_costs(stream.answer)
