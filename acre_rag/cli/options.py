"""Options that several commands share: what they are called, and what they mean."""

import logging
import os
import sys
import warnings
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from acre_rag.cli.failures import DEBUG


class NumberType(str, Enum):
    """Number types that a model may compute in."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class StoredForm(str, Enum):
    """Number types that keys and values may be stored in."""

    bfloat16 = "bfloat16"
    float16 = "float16"
    float32 = "float32"
    int8 = "int8"
    int8_int4 = "int8-int4"


class SelectionRule(str, Enum):
    """How landmarks are scored."""

    learned = "learned"
    published = "published"


class PlanPolicy(str, Enum):
    """Ways to answer, and the choice between them."""

    refill = "refill"
    recompute = "recompute"
    prefill = "prefill"
    auto = "auto"


def _prepare(ctx: typer.Context, debug: bool) -> bool:  # typer calls it so
    """Let errors show in full where that is wished; else keep other libraries quiet."""
    ctx.meta[DEBUG] = debug
    if debug:
        sys.excepthook = sys.__excepthook__
        return debug
    warnings.simplefilter("ignore")
    # Read when transformers, its hub and tqdm are imported, which is later.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("TQDM_DISABLE", "1")
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.ERROR)
    logging.getLogger("acre_rag").setLevel(logging.WARNING)
    # That there is no adapter is said by the command, once.
    logging.getLogger("acre_rag.engine.adapter").setLevel(logging.ERROR)
    return debug


Store = Annotated[
    str | None,
    typer.Option(
        envvar="ACRE_STORE",
        metavar="PATH|URL",
        help="Where caches are kept: a directory, or a redis:// URL. Default: one of your own.",
        rich_help_panel="Where",
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="File with the key of an encrypted store: 64 hexadecimal digits. Default: what "
        "ACRE_STORE_KEY holds, if anything.",
        rich_help_panel="Where",
    ),
]
Documents = Annotated[
    list[str] | None,
    typer.Option(
        "--document",
        metavar="ID",
        help="Ask this document; repeat it for several. Default: all that are stored.",
        rich_help_panel="Question",
    ),
]


def refill_tokens(given: str) -> int:
    """Take a number of tokens, or `auto`; typer knows no type that is both."""
    if given == "auto":
        return given  # type: ignore[return-value]
    try:
        tokens = int(given)
    except ValueError:
        tokens = -1
    if tokens < 0:
        raise typer.BadParameter(f"{given!r} is no number of tokens; expected 0 or more, or auto")
    return tokens


RefillTokens = Annotated[
    int | None,
    typer.Option(
        parser=refill_tokens,
        metavar="TOKENS|auto",
        help="Most tokens to bring back for the question; 'auto' takes as many as it needs. "
        "Default: a quarter of the documents, at least 256, at most 4,096.",
        rich_help_panel="Question",
    ),
]
MaxNewTokens = Annotated[
    int, typer.Option(min=1, help="Longest answer, in tokens.", rich_help_panel="Question")
]
Instructions = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="How to answer, in place of 'Answer with a short phrase from the context.'",
        rich_help_panel="Question",
    ),
]
Selection = Annotated[
    SelectionRule,
    typer.Option(
        help="How places are chosen: by weights that were learned, or by ACRE's published rule.",
        rich_help_panel="Question",
    ),
]
Policy = Annotated[
    PlanPolicy,
    typer.Option(
        help="How to answer: 'refill' from the store; 'recompute', reading the documents anew; "
        "'prefill', the whole text in front of the model; 'auto', whatever acre explain finds "
        "cheapest.",
        rich_help_panel="Question",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|PATH",
        help="Hub name or directory of a model. Default: the demo model, SmolLM2-135M-Instruct.",
        rich_help_panel="Model",
    ),
]
Adapter = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="Directory of a landmark adapter, or 'none' for the training-free mode. Default: "
        "the one that ships for the model, if one does.",
        rich_help_panel="Model",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="cpu, cuda, cuda:1... Default: the GPU where there is one.",
        rich_help_panel="Model",
    ),
]
Dtype = Annotated[
    NumberType | None,
    typer.Option(
        help="Number type to compute in. Default: bfloat16 where the device is good at it.",
        rich_help_panel="Model",
    ),
]
Stored = Annotated[
    StoredForm | None,
    typer.Option(
        help="Number type of what is stored: int8 takes about half the room of bfloat16, at a very "
        "small loss; int8-int4 (keys, values) less. Default: int8. Ask with the one documents were "
        "read with.",
        rich_help_panel="Model",
    ),
]
WindowTokens = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="TOKENS",
        help="Tokens read in one step, for models with a short context. Default: 1,024. Ask with "
        "the number that documents were read with.",
        rich_help_panel="Model",
    ),
]
JSON = Annotated[
    bool, typer.Option("--json", help="Print one JSON object a line.", rich_help_panel="Output")
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug", callback=_prepare, help="Show errors in full.", rich_help_panel="Output"
    ),
]
