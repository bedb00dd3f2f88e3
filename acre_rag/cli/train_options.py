"""Options of the training commands: what they are called, and what they mean."""

import logging
import math
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from acre_rag.cli import options

_DATA, _STEPS, _CHECK, _LANDMARKS, _RUN = "Data", "Steps", "Checks", "Landmarks", "Run"


class Way(str, Enum):
    """What a baseline's generator is shown."""

    full = "full"
    rag = "rag"


class _Lines(logging.Handler):
    """Puts progress lines on standard error, whichever that is by then."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(self.format(record), err=True)


def show_progress() -> None:
    """Let the progress lines of training through."""
    log = logging.getLogger("acre_rag.train")
    log.setLevel(logging.INFO)
    log.propagate = False
    if not log.handlers:
        handler = _Lines()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        log.addHandler(handler)


Texts = Annotated[
    list[Path],
    typer.Argument(
        metavar="TEXTS...",
        help="A pack, or JSON lines with text, or plain text.",
        show_default=False,
    ),
]
MixedTexts = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH", help="Running text to mix in, as for stage1.", rich_help_panel=_DATA
    ),
]
Questions = Annotated[
    list[Path],
    typer.Argument(
        metavar="QUESTIONS...",
        help="Packs, or JSON lines as acre eval takes them. How a file's name begins "
        "says which of the recipe's documents are made of it: fairytale, qmsum, or squad, "
        "which is taken for any other name.",
        show_default=False,
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        metavar="DIR", help="Where the run goes; one that is there is continued.",
        show_default=False,
    ),
]  # fmt: skip
Start = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Adapter to start from.", rich_help_panel=_LANDMARKS),
]
Rank = Annotated[int, typer.Option(min=1, help="Rank of every change.", rich_help_panel=_LANDMARKS)]
QuestionLandmarks = Annotated[
    int,
    typer.Option(min=0, help="Landmarks of a question.", rich_help_panel=_LANDMARKS),
]
WindowTokens = Annotated[
    int, typer.Option(min=1, help="Tokens read in one step.", rich_help_panel=_LANDMARKS)
]
Steps = Annotated[int, typer.Option(min=1, help="Steps of the whole run.", rich_help_panel=_STEPS)]
Documents = Annotated[int, typer.Option(min=1, help="Documents of a step.", rich_help_panel=_STEPS)]
LearningRate = Annotated[float, typer.Option(help="Highest rate.", rich_help_panel=_STEPS)]
SelectionRate = Annotated[
    float, typer.Option(help="Highest rate of the selection weights.", rich_help_panel=_STEPS)
]
SelectionWeight = Annotated[
    float,
    typer.Option(help="Weight of the selection loss.", rich_help_panel=_STEPS),
]
TextEvery = Annotated[
    int,
    typer.Option(min=1, help="Every so many steps one is on running text.", rich_help_panel=_STEPS),
]
TextWeight = Annotated[
    float, typer.Option(help="Weight of a text step's loss.", rich_help_panel=_STEPS)
]
Share = Annotated[
    float,
    typer.Option(
        min=0.0, max=1.0, help="Share of the tokens to take the loss of.", rich_help_panel=_STEPS
    ),
]
NextToken = Annotated[
    bool,
    typer.Option(
        "--next-token",
        help="Predict the next token, rather than the model's own distribution.",
        rich_help_panel=_STEPS,
    ),
]
Scale = Annotated[
    float,
    typer.Option(
        help="Documents and questions of a step, as a share of the recipe's: lower it where "
        "memory runs out.",
        rich_help_panel=_STEPS,
    ),
]
Tokens = Annotated[
    int, typer.Option(min=1, help="Most tokens of a document.", rich_help_panel=_STEPS)
]
Seed = Annotated[int, typer.Option(help="Of all draws.", rich_help_panel=_RUN)]
StopSeconds = Annotated[
    float,
    typer.Option(
        help="Stop so long after the first step began; run again to go on.", rich_help_panel=_RUN
    ),
]
Workers = Annotated[
    int, typer.Option(min=0, help="Processes that compose batches.", rich_help_panel=_RUN)
]
Compiled = Annotated[
    bool,
    typer.Option("--compiled", help="Compile parts of the model.", rich_help_panel=_RUN),
]
Graphed = Annotated[
    bool,
    typer.Option("--graphed", help="Replay steps as CUDA graphs.", rich_help_panel=_RUN),
]
Check = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="Held-out questions to answer while training.",
        rich_help_panel=_CHECK,
    ),
]
CheckEvery = Annotated[
    int, typer.Option(min=1, help="Steps between two checks.", rich_help_panel=_CHECK)
]
CheckLimit = Annotated[
    int, typer.Option(min=1, help="Questions of a check.", rich_help_panel=_CHECK)
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a run is carried out, whatever it trains."""

    stop_seconds: StopSeconds = math.inf
    workers: Workers = 0
    compiled: Compiled = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOptions:
    """What is measured while training."""

    check: Check = None
    check_every: CheckEvery = 100
    check_limit: CheckLimit = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeOptions:
    """The model, and what it computes with; `debug` has done its work when the command begins."""

    model: options.Model = None
    device: options.Device = None
    dtype: options.Dtype = None
    debug: options.Debug = False
