"""`acre ingest`: files and folders into the store."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acre_rag.answer import Ingested
from acre_rag.cli import options
from acre_rag.cli.failures import MisuseError
from acre_rag.cli.session import Setup, opened_engine
from acre_rag.cli.show import show_json
from acre_rag.errors import DocumentError

if TYPE_CHECKING:
    from rich.progress import Progress


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
    """Read files into the store, once.

    A document is named by its path as you give it. What is stored already and has not changed is
    not read again; what has changed replaces its old cache. After an interruption, the same
    command goes on where it stopped, for a day. A file that cannot be read ends the command: what
    came before it is stored.

    For example:

        acre ingest notes.txt manual.pdf
        acre ingest reports/ --store ./caches
        acre ingest book.txt --model Qwen/Qwen3-0.6B
    """
    del debug  # its callback has seen to it
    _check_paths(paths)
    setup = Setup(
        store=store,
        key_file=key_file,
        model=model,
        adapter=adapter,
        device=device,
        dtype=dtype,
        stored=stored,
    )
    with opened_engine(setup) as engine, _progress() as progress:
        from acre_rag.text.files import read_documents

        for document in read_documents(paths):
            done = engine.ingest([document], _task(progress, document.id))[0]
            if json:
                show_json(
                    {"document": done.id, **{k: v for k, v in asdict(done).items() if k != "id"}}
                )
            else:
                typer.echo(_line(done))


def _check_paths(paths: Sequence[str]) -> None:
    """Refuse arguments that are no documents, before a model is loaded.

    Raises:
        MisuseError: A path is missing, or a file of another kind.
    """
    from acre_rag.text.files import read_documents
    from acre_rag.text.formats import FORMATS

    for path in map(Path, paths):
        if path.is_dir() or (path.exists() and path.suffix.lower() in FORMATS):
            continue
        try:
            next(read_documents(str(path)))
        except DocumentError as error:
            raise MisuseError(str(error)) from error


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


def _task(progress: "Progress", name: str) -> Callable[[str, int, int], None]:
    task = progress.add_task(name, total=None)

    def show(_document: str, tokens: int, total: int) -> None:
        progress.update(task, completed=tokens, total=total)

    return show
