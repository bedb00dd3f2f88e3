"""What people and programs get to see on standard output."""

import json
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence

import typer

from acre_rag.answer import Answer, Source

_SOURCES = 5
_EXCERPT = 100
_PIPE_WIDTH = 4096


def show_json(value: Mapping[str, object]) -> None:
    """Print one JSON object in one line, ASCII alone, whatever the terminal's encoding."""
    typer.echo(json.dumps(value))


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> None:
    """Print a table; the first `left` columns are aligned to the left.

    Lines are cut to no width where they go to a file or a pipe.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        justify = "left" if index < left else "right"
        table.add_column(column, justify=justify, overflow="fold", no_wrap=index >= left)  # type: ignore[arg-type]  # a str, not its literal
    for row in rows:
        table.add_row(*map(Text, row))  # an id is text, not markup
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH).print(table)


def show_sources(sources: Sequence[Source]) -> None:
    """Print the sources that got most attention, with the beginning of each."""
    if not sources:
        typer.echo("sources: none (landmarks alone)")
        return
    best = sorted(sources, key=lambda source: source.score, reverse=True)[:_SOURCES]
    rest = len(sources) - len(best)
    typer.echo("sources" + (f" (the best {_SOURCES} of {len(sources)})" if rest else ""))
    # A line that a terminal would break is as long as it is wide.
    width = shutil.get_terminal_size().columns - 5 if sys.stdout.isatty() else _EXCERPT
    for source in best:
        typer.echo(f"  {source.document} {source.start}-{source.end}, score {source.score:.3f}")
        excerpt = textwrap.shorten(source.text, max(width, 20), placeholder=" ...")
        typer.echo(f"    {excerpt or source.text.strip()[:width]}")


def show_costs(answer: Answer) -> None:
    """Print in one line what an answer cost."""
    usage, seconds = answer.usage, answer.seconds
    took = f"{seconds.first_token:.2f} s to the first token, {seconds.total:.2f} s in all"
    if answer.plan == "prefill":
        typer.echo(f"{took}; the whole text, {usage.document_tokens:,} tokens, prefilled")
        return
    recomputed = f", {usage.recomputed_tokens:,} tokens mended" if usage.recomputed_tokens else ""
    typer.echo(
        f"{took}; {size(usage.bytes_read)} read for {usage.refilled_tokens:,} of "
        f"{usage.document_tokens:,} tokens{recomputed}"
    )


def size(count: int) -> str:
    """Write a number of bytes as people read it."""
    from rich.filesize import decimal

    return decimal(count)
