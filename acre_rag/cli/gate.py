"""`acre verify` and `acre convert`: is a model read rightly, and a checkpoint made usable."""

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acre_rag.cli.failures import FAILED, MisuseError
from acre_rag.cli.groups import ModelOptions, OutputOptions
from acre_rag.cli.session import opened_engine, opened_store
from acre_rag.cli.show import show_json, show_table

if TYPE_CHECKING:
    from acre_rag.engine.verify import Report


def verify(*, model: ModelOptions, output: OutputOptions) -> None:
    """Compare refilled caches with the plain model, on this machine.

    Does refilling everything give what the model itself gives, with this number type and
    attention backend, as it was read and as --stored would keep it? Prints the largest
    differences; exits with 1 where one is out of tolerance. No store is touched.

    For example:

        acre verify
        acre verify --model Qwen/Qwen3-0.6B --dtype float32 --stored bfloat16
    """
    with (
        tempfile.TemporaryDirectory() as aside,
        opened_store(aside) as store,
        opened_engine(store, model) as engine,
    ):
        from acre_rag.engine.verify import verify as compare

        report = compare(engine.reader)
    if output.json:
        show_json({**asdict(report), "passed": report.passed})
    else:
        _show_report(report)
    if not report.passed:
        raise typer.Exit(FAILED)


def convert(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="Checkpoint: a directory of safetensors files, or one such file.",
            show_default=False,
        ),
    ],
    *,
    target: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="PATH",
            help="Directory for the adapter. Default: the checkpoint's name and '-adapter', here.",
            rich_help_panel="Output",
        ),
    ] = None,
    interval_tokens: Annotated[
        int, typer.Option(min=1, help="Interval to use the landmarks with.")
    ] = 16,
    output: OutputOptions,
) -> None:
    """Convert a checkpoint of ACRE's authors into a landmark adapter.

    Only the landmarks' tensors are read (acre_q_proj and so on), and nothing is unpickled. Use the
    result with --adapter, and with the model that the checkpoint was trained from.

    For example:

        acre convert ./acre-checkpoint --output ./adapter
        acre ask "Who wrote the report?" --model ./acre-checkpoint --adapter ./adapter
    """
    if not path.exists():
        raise MisuseError(f"found no {str(path)!r}; expected a checkpoint: check the path")
    directory = target or Path(f"{path.resolve().stem}-adapter")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise MisuseError(
            f"{str(directory)!r} exists; expected a new directory: name one with --output"
        )
    from acre_rag.model.convert import convert as write_adapter

    write_adapter(path, directory, interval_tokens)
    if output.json:
        show_json({"adapter": str(directory)})
    else:
        typer.echo(f"{directory}: converted; use it with --adapter {directory}")


def _show_report(report: "Report") -> None:
    typer.echo(f"{report.model} on {report.device}, {report.dtype}, {report.attention} attention")
    show_table(
        ("compared", "difference", "tolerance", ""),
        [
            (
                *(comparison.name, f"{comparison.difference:.1e}", f"{comparison.tolerance:.1e}"),
                "ok" if comparison.passed else "FAILED",
            )
            for comparison in report.comparisons
        ],
    )
