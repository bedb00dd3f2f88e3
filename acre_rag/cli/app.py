"""The commands of `acre`, put together."""

import sys
from typing import Annotated

import typer

from acre_rag import __version__
from acre_rag.cli.bench import app as bench
from acre_rag.cli.eval import evaluate
from acre_rag.cli.explain import explain
from acre_rag.cli.failures import CommandGroup, say_unexpected
from acre_rag.cli.gate import convert, verify
from acre_rag.cli.groups import spread
from acre_rag.cli.ingest import ingest
from acre_rag.cli.question import ask, chat
from acre_rag.cli.stored import delete, documents, inspect, pin, unpin
from acre_rag.cli.stores import stores
from acre_rag.cli.train import app as train

app = typer.Typer(
    name="acre",
    cls=CommandGroup,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (ingest, ask, chat, explain, documents, inspect, delete, verify, convert):
    app.command()(spread(command))
app.command("eval")(evaluate)
app.add_typer(train, name="train")
for command in (pin, unpin):
    stores.command()(spread(command))
app.add_typer(bench, name="bench")
app.add_typer(stores)


def _show_version(wanted: bool) -> None:  # typer calls it so
    if wanted:
        typer.echo(f"acre {__version__}")
        raise typer.Exit


@app.callback()
def acre(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Read documents once, ask them many times, with a local language model.

    A document is read into a cache that stays on disk; a question fetches only what it needs of
    it, in this process or in any other.

    Begin here:

        acre ingest manual.md             read it once; a small demo model comes along
        acre ask "What does E-33 mean?"   ask everything that was read
        acre chat --document manual.md    several questions in a row
        acre documents                    what there is

    Answers and tables go to standard output, all else to standard error. Exit codes: 0 done,
    1 failed, 2 called wrongly, 130 interrupted.
    """


def main() -> None:
    """Run `acre` on the arguments of this process, and end the process."""
    sys.excepthook = say_unexpected
    for stream in (sys.stdout, sys.stderr):
        # Documents hold characters that a terminal may not know.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    # Called as `app()`, it would put a hook of its own in place of ours.
    typer.main.get_command(app)(prog_name="acre")
