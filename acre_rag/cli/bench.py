"""`acre bench`: this package beside what else could be done, on this machine."""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from acre_rag.cli import options
from acre_rag.cli.failures import MisuseError, say
from acre_rag.cli.groups import ModelOptions
from acre_rag.cli.session import loaded

_MEASURED, _OUTPUT = "What is measured", "Output"

app = typer.Typer(
    name="bench",
    help="Measure this package beside what else could be done, on this machine: every figure is "
    "a ratio against a named alternative of the same run.",
    invoke_without_command=True,
    add_completion=False,
)

Part = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Repeat it for several: machine, encode, first-token, decode, policy, length, "
        "documents, budget, at-once, load, llama-cpp. Default: all.",
        rich_help_panel=_MEASURED,
    ),
]
Tokens = Annotated[
    list[int] | None,
    typer.Option(
        min=1,
        metavar="TOKENS",
        help="Length of a document; repeat it for several. Default: 4000 and 8000.",
        rich_help_panel=_MEASURED,
    ),
]
Rounds = Annotated[int, typer.Option(min=1, help="Rounds that count.", rich_help_panel=_MEASURED)]
Longest = Annotated[
    int, typer.Option(min=2000, help="Longest document of 'length'.", rich_help_panel=_MEASURED)
]
Documents = Annotated[
    int, typer.Option(min=2, help="Most documents of 'documents'.", rich_help_panel=_MEASURED)
]
NewTokens = Annotated[
    int,
    typer.Option(
        min=3, help="Longest answer of 'decode' and 'at-once'.", rich_help_panel=_MEASURED
    ),
]
Askers = Annotated[
    int,
    typer.Option(
        min=1,
        help="Threads of 'load' and 'at-once'; twice as many are the largest batch.",
        rich_help_panel=_MEASURED,
    ),
]
LoadSeconds = Annotated[
    float, typer.Option("--seconds", min=0, help="How long 'load' is.", rich_help_panel=_MEASURED)
]
Redis = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Server to measure over. Default: one that is started for it, where redis-server is "
        "installed.",
        rich_help_panel=_MEASURED,
    ),
]
Results = Annotated[
    Path | None,
    typer.Option(
        "--json", metavar="FOLDER", help="Gets a file for each part.", rich_help_panel=_OUTPUT
    ),
]
Files = Annotated[
    list[Path],
    typer.Argument(metavar="FILES", help="What --json wrote: files, or folders of them."),
]
Markdown = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Gets the tables; else they are printed."),
]
Pictures = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Gets a picture for each part.")
]


@app.callback()
def bench(
    ctx: typer.Context,
    *,
    part: Part = None,
    tokens: Tokens = None,
    rounds: Rounds = 3,
    longest: Longest = 32000,
    documents: Documents = 200,
    new_tokens: NewTokens = 64,
    askers: Askers = 8,
    seconds: LoadSeconds = 300.0,
    redis: Redis = None,
    model: options.Model = None,
    adapter: options.Adapter = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    stored: options.Stored = None,
    json: Results = None,
    debug: options.Debug = False,
) -> None:
    """Measure parts, and print their tables.

    For example:

        acre bench --part machine --part encode --json results
        acre bench report results --pictures results
    """
    del debug  # its callback has seen to it
    if ctx.invoked_subcommand is not None:
        return
    from acre_rag.bench.parts import chosen, measure, write_part
    from acre_rag.bench.redis_server import running_redis
    from acre_rag.bench.report import markdown
    from acre_rag.bench.scene import Scene, Sizes
    from acre_rag.errors import ConfigError

    try:
        names = chosen(part)
    except ConfigError as error:
        raise MisuseError(str(error)) from error
    if json is not None and json.exists() and not json.is_dir():
        raise MisuseError(f"{json} is a file; expected a folder, for a file of each part")
    sizes = Sizes(
        tokens=tuple(tokens or Sizes().tokens),
        rounds=rounds,
        longest=longest,
        documents=documents,
        new_tokens=new_tokens,
        askers=askers,
        seconds=seconds,
    )
    chosen_model = ModelOptions(
        model=model, adapter=adapter, device=device, dtype=dtype, stored=stored
    )
    local, landmarks, config = loaded(chosen_model)
    for name in names:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="acre-bench-")))
            server = redis
            if redis is None and name == "first-token":
                server = stack.enter_context(running_redis(folder / "redis"))
            scene = Scene(
                local=local,
                adapter=landmarks,
                config=config,
                sizes=sizes,
                folder=folder,
                redis=server,
                say=say,
            )
            measured = measure(name, scene)
        if json is not None:
            write_part(measured, json / f"{name}.json")
        typer.echo(markdown([measured]))


@app.command()
def report(files: Files, *, markdown: Markdown = None, pictures: Pictures = None) -> None:
    """Merge parts into one page, and draw them."""
    from acre_rag.bench import parts
    from acre_rag.bench import report as made

    found = parts.read_parts(files)
    if pictures is not None:
        for path in made.draw(found, pictures):
            say(f"drew {path}")
    page = made.markdown(found)
    if markdown is None:
        typer.echo(page, nl=False)
        return
    try:
        markdown.write_text(page, encoding="utf-8")
    except OSError as error:
        raise MisuseError(
            f"{markdown} cannot be written ({error.strerror}); expected a file of yours: name "
            "another"
        ) from error
