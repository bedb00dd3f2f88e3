"""How a command ends that cannot do what it was asked: one line, and an exit code."""

import sys
from types import TracebackType
from typing import Any

import typer
from typer.core import TyperGroup

from acre_rag.errors import ACREError

FAILED = 1
MISUSED = 2
INTERRUPTED = 130

DEBUG = "acre.debug"
"""Where a command's context keeps whether errors shall be shown in full."""


class MisuseError(ACREError):
    """An argument or an option that cannot be meant."""


class CommandGroup(TyperGroup):
    """Runs a command, and ends it with one line on standard error where it fails."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  # typer brings its own click, or not
        """Run the command that was asked for.

        Raises:
            typer.Exit: It failed, was called wrongly, or was interrupted.
            ACREError: It failed, and the error shall be shown in full.
        """
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # here, a reader that has gone is noticed in time
        except KeyboardInterrupt:
            say("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except ACREError as error:
            if ctx.meta.get(DEBUG):
                raise
            say(f"error: {error}")
            raise typer.Exit(MISUSED if isinstance(error, MisuseError) else FAILED) from None
        return result


def say(message: str) -> None:
    """Put one line on standard error."""
    typer.echo(" ".join(message.splitlines()), err=True)


def say_unexpected(
    kind: type[BaseException], error: BaseException, _traceback: TracebackType | None
) -> None:
    """Put an error that nobody expected in one line; a hook for `sys.excepthook`."""
    if issubclass(kind, KeyboardInterrupt):
        say("interrupted")
    elif issubclass(kind, MemoryError) or "allocate memory" in str(error):
        say(
            "error: the memory of this machine is exhausted; expected room for the model and one "
            "window of a document: split the document, or close other programs"
        )
    else:
        say(
            f"error: {kind.__name__}: {error}; expected nothing of the kind: run it again with "
            "--debug to see where, and report it"
        )
