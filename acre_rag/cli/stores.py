"""`acre stores`: whole stores copied, checked and counted; no model is loaded."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acre_rag.cli import options
from acre_rag.cli.failures import FAILED, MisuseError, say
from acre_rag.cli.session import opened_as_named, opened_store
from acre_rag.cli.show import show_json, show_table, size

if TYPE_CHECKING:
    from acre_rag.store.copying import Copied

_SHORT = 8

stores = typer.Typer(
    name="stores",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Copy, check and count whole stores, whatever models have read into them.",
)

At = Annotated[
    str | None,
    typer.Argument(
        metavar="STORE",
        envvar="ACRE_STORE",
        help="A directory, or a redis:// URL. Default: one of your own.",
        show_default=False,
        show_envvar=True,
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="File with the key of this store, where it is encrypted.",
        rich_help_panel="Where",
    ),
]


@stores.command()
def copy(
    source: Annotated[
        str, typer.Argument(metavar="FROM", help="The store to copy.", show_default=False)
    ],
    target: Annotated[
        str, typer.Argument(metavar="TO", help="The store to copy to.", show_default=False)
    ],
    *,
    from_key_file: KeyFile = None,
    to_key_file: KeyFile = None,
    json: options.JSON = False,
    debug: options.Debug = False,
) -> None:
    """Copy every document of a store into another one.

    Each value is verified on its way, and arrives byte for byte. A document that is damaged is
    left out and named. What the other store has already is not copied again, so that the same
    command goes on after an interruption; a document that it has in another version is replaced.
    Each store has its key, if any, in a file: what ACRE_STORE_KEY holds is for neither.

    For example:

        acre stores copy ./caches redis://cache.example:6379/0
        acre stores copy redis://cache.example:6379/0 ./backup --json
        acre stores copy ./caches ./encrypted --to-key-file ~/acre.key
    """
    del debug  # its callback has seen to it
    from acre_rag.store.copying import copy_documents
    from acre_rag.store.missing import empty_store

    documents = left_out = 0
    with (
        opened_as_named(source, from_key_file) as origin,
        opened_as_named(target, to_key_file) as goal,
        _progress() as show,
    ):
        if origin.url == goal.url:
            raise MisuseError(
                f"found {origin.url} twice; expected two stores: name another one to copy to"
            )
        for copied in copy_documents(origin, goal, show):
            documents, left_out = documents + 1, left_out + (copied.outcome == "damaged")
            _show_copied(copied, json=json)
    if not documents:
        raise empty_store(origin.url)
    if left_out:
        raise typer.Exit(FAILED)


@stores.command()
def check(
    store: At = None,
    *,
    key_file: options.KeyFile = None,
    json: options.JSON = False,
    debug: options.Debug = False,
) -> None:
    """Read everything in a store and verify every byte.

    Prints a line for each value that is missing or damaged, and exits with 1 if there is one.
    Asking a document mends what is damaged in it; so does acre ingest --check.

    For example:

        acre stores check
        acre stores check redis://cache.example:6379/0 --json
    """
    del debug  # its callback has seen to it
    from acre_rag.store.checking import check_documents

    documents = values = read = damaged = 0
    with opened_store(store, key_file) as opened, _progress() as show:
        for checked in check_documents(opened, show):
            documents, values = documents + 1, values + checked.values
            read, damaged = read + checked.bytes, damaged + len(checked.damages)
            for damage in checked.damages:
                facts = {"space": checked.space, "document": checked.document}
                facts |= {"value": damage.value, "reason": damage.reason, "message": str(damage)}
                if json:
                    show_json(facts)
                else:
                    typer.echo(f"{damage.reason}: {damage} (space {checked.space[:_SHORT]})")
    say(f"{documents:,} documents, {values:,} values, {size(read)} read; {damaged:,} damaged")
    if damaged:
        raise typer.Exit(FAILED)


@stores.command()
def stats(
    store: At = None,
    *,
    key_file: options.KeyFile = None,
    json: options.JSON = False,
    debug: options.Debug = False,
) -> None:
    """Count documents, tokens and bytes, by the model that read them.

    Manifests alone are read. Each set of model, adapter and settings has a space of its own.

    For example:

        acre stores stats
        acre stores stats redis://cache.example:6379/0 --json | jq .bytes
    """
    del debug  # its callback has seen to it
    from acre_rag.store.checking import holdings

    with opened_store(store, key_file) as opened:
        found = holdings(opened)
    if json:
        for held in found:
            show_json(asdict(held))
        return
    if not found:
        typer.echo("no documents; acre ingest PATH reads some")
        return
    rows = [
        (
            *(held.space[:_SHORT], held.model, held.method, held.dtype),
            *(f"{held.documents:,}", f"{held.tokens:,}", size(held.bytes)),
        )
        for held in found
    ]
    columns = ("space", "model", "method", "stored", "documents", "tokens", "size")
    show_table(columns, rows, left=4)


def _show_copied(copied: "Copied", *, json: bool) -> None:
    if json:
        show_json(
            {
                "space": copied.space,
                "document": copied.document,
                "outcome": copied.outcome,
                "bytes": copied.bytes,
                "damage": None if copied.damage is None else str(copied.damage),
            }
        )
    elif copied.damage is not None:
        say(f"left out {copied.document}: {copied.damage}")
    else:
        done = "there already" if copied.outcome == "present" else f"{size(copied.bytes)} copied"
        typer.echo(f"{copied.document}: {done}")


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show on a terminal how many values of a document are done."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
        # Else lines for a pipe would go to the terminal that shows the bar.
        redirect_stdout=sys.stdout.isatty(),
    ) as progress:
        task = progress.add_task("")

        def show(document: str, done: int, total: int) -> None:
            # What is in brackets would be markup.
            name = document.replace("[", r"\[")
            progress.update(task, description=name, completed=done, total=total)

        yield show
