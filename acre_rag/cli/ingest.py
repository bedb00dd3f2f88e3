"""`acre ingest`: files and folders into the store."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acre_rag.answer import Ingested
from acre_rag.cli.failures import INTERRUPTED, MisuseError, say
from acre_rag.cli.groups import ModelOptions, OutputOptions, StoreOptions
from acre_rag.cli.session import check_writable, opened_engine, opened_store
from acre_rag.cli.show import show_json
from acre_rag.errors import DocumentError

if TYPE_CHECKING:
    from rich.progress import Progress

    from acre_rag.engine import ACREEngine

_QUICK = (".txt", ".md")


def ingest(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Files (txt, md, html, pdf), or folders of them.",
            show_default=False,
        ),
    ],
    *,
    place: StoreOptions,
    model: ModelOptions,
    output: OutputOptions,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Verify every stored byte too, and make anew what was changed in place."
        ),
    ] = False,
) -> None:
    """Read files into the store, once.

    A document is named by its path as you give it. What is stored already and has not changed is
    not read again; what has changed replaces its old cache. After an interruption, the same
    command goes on where it stopped, for a day. Texts are checked
    before anything is read; a page or PDF that cannot be read ends the command, and what came
    before it is stored.

    For example:

        acre ingest notes.txt manual.pdf
        acre ingest reports/ --store ./caches
        acre ingest book.txt --model Qwen/Qwen3-0.6B
    """
    _check_files(paths)
    with opened_store(place.store, place.key_file) as opened:
        check_writable(opened)
        with opened_engine(opened, model) as engine, _progress() as progress:
            try:
                _read(engine, paths, progress, json=output.json, check=check)
            except KeyboardInterrupt:
                say("interrupted; what was read is kept, and the same command goes on from there")
                raise typer.Exit(INTERRUPTED) from None


def _check_files(paths: Sequence[str]) -> None:
    """Refuse what is no document, before a model is loaded.

    Texts are quickly read; pages and PDFs are not, but for the first.

    Raises:
        MisuseError: A path is missing, or of another kind.
        DocumentError: A file is empty, binary, wrongly encoded or cannot be read.
    """
    from acre_rag.text.files import find_documents, read_documents

    # Not Path.is_dir: it raises where a name is too long, and takes none for this folder.
    folders = [path for path in paths if os.path.isdir(path)]  # noqa: PTH112
    try:
        find_documents([path for path in paths if path not in folders])
    except DocumentError as error:
        raise MisuseError(str(error)) from error
    found = find_documents(paths)
    for name in found:
        if name == found[0] or Path(name).suffix.lower() in _QUICK:
            next(read_documents(name))


def _read(
    engine: "ACREEngine",
    paths: Sequence[str],
    progress: "Progress",
    *,
    json: bool,
    check: bool,
) -> None:
    from acre_rag.text.files import read_documents

    for document in read_documents(paths):
        with _bar(progress, document.id) as show:
            done = engine.ingest(document, show, check=check)[0]
        if json:
            facts = asdict(done)
            show_json({"document": facts.pop("id"), **facts})
        else:
            typer.echo(_line(done))


def _line(done: Ingested) -> str:
    if not done.encoded_tokens:
        return f"{done.id}: {done.tokens:,} tokens, stored already"
    resumed = done.tokens - done.encoded_tokens
    rest = f" ({resumed:,} of them by an earlier run)" if resumed else ""
    return f"{done.id}: {done.tokens:,} tokens{rest}, read in {done.seconds:.1f} s"


@contextmanager
def _progress() -> Iterator["Progress"]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeRemaining

    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("tokens"),
        TimeRemaining(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        # Else lines for a pipe would go to the terminal that shows the bar.
        redirect_stdout=sys.stdout.isatty(),
    ) as progress:
        yield progress


@contextmanager
def _bar(progress: "Progress", name: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show how far a document has come, as long as it is read."""
    task = progress.add_task(name, total=None)

    def show(_document: str, tokens: int, total: int) -> None:
        progress.update(task, completed=tokens, total=total)

    try:
        yield show
    finally:
        progress.remove_task(task)
