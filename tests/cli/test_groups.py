"""Groups of options: each field is an option of every command that takes the group."""

import inspect
from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from acre_rag.cli.groups import spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Two options that go together."""

    width: Annotated[int, typer.Option(min=1, help="How wide.")] = 3
    name: Annotated[str | None, typer.Option("--called")] = None


def paint(colour: str, *, sizes: Sizes, bright: bool = False) -> None:
    """Paint it."""
    typer.echo(f"{colour} {sizes} {bright}")


def test_a_group_comes_together_again() -> None:
    app = typer.Typer()
    app.command()(spread(paint))

    given = CliRunner().invoke(app, ["red", "--width", "5", "--called", "wall", "--bright"])
    left = CliRunner().invoke(app, ["red"])

    assert given.stdout == "red Sizes(width=5, name='wall') True\n"
    assert left.stdout == "red Sizes(width=3, name=None) False\n"
    assert CliRunner().invoke(app, ["red", "--width", "0"]).exit_code == 2


def test_fields_stand_in_the_place_of_their_group() -> None:
    assert list(inspect.signature(spread(paint)).parameters) == [
        *("colour", "width", "name", "bright")
    ]
