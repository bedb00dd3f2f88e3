"""`acre train prepare-texts` and `prepare-questions`: tokenize once, for many runs."""

import json
from pathlib import Path
from typing import Annotated

import typer

from acre_rag.cli import options
from acre_rag.cli import train_options as given
from acre_rag.cli.train_session import frame_of, load_local


def prepare_texts(
    paths: given.Texts,
    *,
    out: given.Out,
    skip_last: Annotated[int, typer.Option(min=0, help="Leave out the last of each file.")] = 0,
    only_last: Annotated[int, typer.Option(min=0, help="Take the last of each file alone.")] = 0,
    computing: given.ComputeOptions,
) -> None:
    """Tokenize texts into a pack, once for many runs; the last may be kept for validation."""
    from acre_rag.train.packs import save_texts
    from acre_rag.train.prepare import pack_texts

    frame = frame_of(load_local(computing))
    save_texts(pack_texts(paths, frame, skip_last=skip_last, only_last=only_last), out)


def prepare_questions(
    path: Annotated[Path, typer.Argument(help="JSON lines.", show_default=False)],
    *,
    out: given.Out,
    answer_tokens: Annotated[int, typer.Option(min=1, help="Longest answer to keep.")] = 24,
    instructions: options.Instructions = None,
    computing: given.ComputeOptions,
) -> None:
    """Tokenize documents and questions into a pack, with the answers' words beside it."""
    from acre_rag.train.prepare import pack_questions

    frame = frame_of(load_local(computing))
    pack, kept = pack_questions(path, frame, answer_tokens=answer_tokens, instructions=instructions)
    pack.save(out)
    lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept)
    out.with_suffix(".answers.jsonl").write_text(lines, encoding="utf-8")
