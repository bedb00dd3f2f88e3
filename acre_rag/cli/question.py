"""`acre ask` and `acre chat`: questions over what is stored."""

import sys
from collections.abc import Iterator
from itertools import takewhile
from typing import TYPE_CHECKING, Annotated

import typer

from acre_rag.cli import options
from acre_rag.cli.failures import say
from acre_rag.cli.session import Setup, opened_engine
from acre_rag.cli.show import show_costs, show_json, show_sources
from acre_rag.errors import BudgetError

if TYPE_CHECKING:
    from acre_rag.engine import AnswerStream

_NEW_TOKENS = 64
_LEAVE = ("exit", "quit")


def ask(
    question: Annotated[
        str,
        typer.Argument(metavar="QUESTION", help="What you want to know.", show_default=False),
    ],
    *,
    document: options.Documents = None,
    refill_tokens: options.RefillTokens = None,
    max_new_tokens: options.MaxNewTokens = _NEW_TOKENS,
    instructions: options.Instructions = None,
    selection: options.Selection = options.SelectionRule.learned,
    store: options.Store = None,
    key_file: options.KeyFile = None,
    model: options.Model = None,
    adapter: options.Adapter = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    stored: options.Stored = options.StoredForm.bfloat16,
    json: options.JSON = False,
    debug: options.Debug = False,
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
    del debug  # its callback has seen to it
    setup = Setup(
        store=store,
        key_file=key_file,
        model=model,
        adapter=adapter,
        device=device,
        dtype=dtype,
        selection=selection,
        stored=stored,
    )
    with opened_engine(setup) as engine:
        stream = engine.stream(question, document, refill_tokens, max_new_tokens, instructions)
        _show(stream, json=json)


def chat(
    *,
    document: options.Documents = None,
    refill_tokens: options.RefillTokens = None,
    max_new_tokens: options.MaxNewTokens = _NEW_TOKENS,
    instructions: options.Instructions = None,
    selection: options.Selection = options.SelectionRule.learned,
    store: options.Store = None,
    key_file: options.KeyFile = None,
    model: options.Model = None,
    adapter: options.Adapter = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    stored: options.Stored = options.StoredForm.bfloat16,
    json: options.JSON = False,
    debug: options.Debug = False,
) -> None:
    """Ask several questions over the same documents, one a line.

    The model is loaded once. Every question stands for itself: it knows nothing of those before
    it. 'exit', 'quit' or the end of the input leaves.

    For example:

        acre chat --document manual.md
        acre chat --json < questions.txt > answers.jsonl
    """
    del debug  # its callback has seen to it
    setup = Setup(
        store=store,
        key_file=key_file,
        model=model,
        adapter=adapter,
        device=device,
        dtype=dtype,
        selection=selection,
        stored=stored,
    )
    with opened_engine(setup) as engine:
        for question in _questions():
            try:
                stream = engine.stream(
                    question, document, refill_tokens, max_new_tokens, instructions
                )
            except BudgetError as error:  # of this question; the next may be shorter
                say(f"error: {error}")
                continue
            _show(stream, json=json)


def _questions() -> Iterator[str]:
    """Take questions from the terminal, or from whatever else is the input."""
    if not sys.stdin.isatty():
        given = (line.strip() for line in sys.stdin)
        yield from takewhile(lambda line: line.lower() not in _LEAVE, filter(None, given))
        return
    import readline  # noqa: F401  # gives `input` its line editing

    say("ask a question; 'exit' leaves")
    while True:
        try:
            line = input("? ").strip()
        except EOFError:
            return
        if line.lower() in _LEAVE:
            return
        if line:
            yield line


def _show(stream: "AnswerStream", *, json: bool) -> None:
    """Show an answer as it comes, then where it is from and what it cost."""
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
