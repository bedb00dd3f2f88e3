"""Commands of training: `python -m acre_rag.train prepare-texts | prepare-questions | stage1 ...`.

An option of a command is an argument of its function, hence their number.
"""
# ruff: noqa: PLR0913, PLR0917

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from safetensors.torch import save_file
from torch.utils.data import Dataset

from acre_rag.config import Prompt
from acre_rag.model.adapter_files import load_adapter
from acre_rag.model.landmarks import LowRankProjection
from acre_rag.model.local import LocalModel
from acre_rag.model.prompt import PromptFrame
from acre_rag.train.batches import QuestionBatch, QuestionSteps, StepShape
from acre_rag.train.calibrate import prune_weights
from acre_rag.train.loop import LoopSettings, run_steps
from acre_rag.train.measure import calibrated_weights, measured, measured_gap, read_gold
from acre_rag.train.packs import QuestionPack, load_texts, save_texts
from acre_rag.train.prepare import pack_questions, pack_texts
from acre_rag.train.probe import ProbeSettings
from acre_rag.train.recipe import CALIBRATION, SHAPES, TEXT_WINDOWS
from acre_rag.train.setup import LandmarkSettings, Setup, open_setup
from acre_rag.train.steps import StepLoss
from acre_rag.train.texts import TextBatch, TextSteps

app = typer.Typer(add_completion=False, no_args_is_help=True)
Model = Annotated[str | None, typer.Option(help="Hub name or path; the demo model if left out.")]
Start = Annotated[Path | None, typer.Option(help="Adapter to start from.")]
Seconds = Annotated[float, typer.Option(help="Stop after this time, with a checkpoint.")]
Number = Annotated[str | None, typer.Option(help="Number type to compute in.")]
Packs = Annotated[list[Path], typer.Argument(help="Question packs, each named as in the recipe.")]
Out = Annotated[Path, typer.Option(help="Where results go.")]


@app.command()
def prepare_texts(
    paths: list[Path], out: Out, model: Model = None, skip_last: int = 0, only_last: int = 0
) -> None:
    """Tokenize texts into a pack; leave out (or take) the last ones of each file."""
    texts = pack_texts(paths, _frame(model), skip_last=skip_last, only_last=only_last)
    save_texts(texts, out)


@app.command()
def prepare_questions(
    path: Path,
    out: Out,
    model: Model = None,
    answer_tokens: int = 24,
    instructions: str | None = None,
) -> None:
    """Tokenize documents and questions into a pack, with the answers' words beside it."""
    frame = _frame(model)
    pack, kept = pack_questions(path, frame, answer_tokens=answer_tokens, instructions=instructions)
    pack.save(out)
    lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept)
    out.with_suffix(".answers.jsonl").write_text(lines, encoding="utf-8")


@app.command()
def stage1(
    texts: Path,
    out: Out,
    model: Model = None,
    start: Start = None,
    steps: int = 370,
    documents: int = 24,
    share: float = 0.2,
    learning_rate: float = 2e-3,
    stop_seconds: Seconds = float("inf"),
    window_tokens: int = 1024,
    rank: int = 64,
    seed: int = 0,
    dtype: Number = None,
    device: str | None = None,
    workers: int = 0,
    *,
    next_token: bool = False,
    compiled: bool = False,
) -> None:
    """Distil full attention over earlier windows into landmarks."""
    landmarks = LandmarkSettings(rank=rank, window_tokens=window_tokens, seed=seed)
    local = LocalModel.load(model, device=device, dtype=dtype)
    setup = open_setup(local, landmarks, start=start, compiled=compiled)
    dataset = TextSteps(
        load_texts(texts),
        documents=documents,
        windows=TEXT_WINDOWS,
        window_tokens=window_tokens,
        share=share,
        seed=seed,
    )
    settings = LoopSettings(
        steps=steps,
        learning_rate=learning_rate,
        selection_rate=0.0,
        stop_seconds=stop_seconds,
        workers=workers,
    )

    def loss_of(batch: TextBatch) -> StepLoss:
        return setup.trainer.text_loss(batch.to(setup.local.device), next_token=next_token)

    done = run_steps(setup.trainable, dataset, loss_of, settings, out)
    setup.save(out / "adapter", None, {"stage1_steps": done})


class _Mixed(Dataset[QuestionBatch | TextBatch]):
    """Questions, with running text every so many steps: what stage 1 taught stays learned."""

    def __init__(self, questions: QuestionSteps, texts: TextSteps | None, every: int) -> None:
        self._questions = questions
        self._texts = texts
        self._every = every

    def __getitem__(self, step: int) -> QuestionBatch | TextBatch:
        if self._texts is not None and step % self._every == self._every - 1:
            return self._texts[step]
        return self._questions[step]


@app.command()
def stage2(
    packs: Packs,
    out: Out,
    start: Start = None,
    texts: Annotated[Path | None, typer.Option(help="Text pack to mix in.")] = None,
    text_every: int = 3,
    text_documents: int = 12,
    text_weight: Annotated[float, typer.Option(help="Weight of a text step's loss.")] = 4.0,
    model: Model = None,
    steps: int = 745,
    learning_rate: float = 2e-3,
    selection_rate: float = 3e-2,
    selection_weight: float = 0.7,
    stop_seconds: Seconds = float("inf"),
    scale: Annotated[float, typer.Option(help="Contexts of a step, as a share.")] = 1.0,
    tokens: Annotated[int, typer.Option(help="Most tokens of a document.")] = 16384,
    window_tokens: int = 1024,
    rank: int = 64,
    seed: int = 1,
    dtype: Number = None,
    device: str | None = None,
    workers: int = 0,
    *,
    compiled: bool = False,
    graphed: Annotated[bool, typer.Option(help="Replay steps as CUDA graphs.")] = False,
) -> None:
    """Learn to select, and to answer over refilled memories."""
    landmarks = LandmarkSettings(rank=rank, window_tokens=window_tokens)
    local = LocalModel.load(model, device=device, dtype=dtype)
    setup = open_setup(local, landmarks, start=start, compiled=compiled)
    loaded, shapes = _drawn(packs, SHAPES, scale, tokens)
    questions = QuestionSteps(loaded, shapes, setup.settings, seed=seed)
    running = None
    if texts is not None:
        running = TextSteps(
            load_texts(texts),
            documents=text_documents,
            windows=TEXT_WINDOWS,
            window_tokens=window_tokens,
            share=0.2,
            seed=seed,
        )
    settings = LoopSettings(
        steps=steps,
        learning_rate=learning_rate,
        selection_rate=selection_rate,
        stop_seconds=stop_seconds,
        workers=workers,
        graphed=graphed,
    )

    def loss_of(batch: QuestionBatch | TextBatch) -> StepLoss:
        if isinstance(batch, TextBatch):
            told = setup.trainer.text_loss(batch.to(setup.local.device))
            return replace(told, total=told.total * text_weight)
        selection = setup.trainable.selection()
        return setup.trainer.question_loss(
            batch.to(setup.local.device), selection, selection_weight=selection_weight
        )

    done = run_steps(
        setup.trainable, _Mixed(questions, running, text_every), loss_of, settings, out
    )
    setup.save(out / "adapter", None, {"stage2_steps": done})


@app.command()
def calibrate(
    packs: Packs,
    out: Out,
    model: Model = None,
    adapter: Annotated[
        Path | None, typer.Option(help="Adapter; the training-free mode without one.")
    ] = None,
    batches: int = 20,
    scale: float = 1.0,
    tokens: int = 4096,
    smallest: Annotated[float, typer.Option(help="Weights below this are dropped.")] = 1e-3,
    dtype: Number = None,
    device: str | None = None,
) -> None:
    """Fit selection weights alone, for an adapter or for the training-free mode."""
    setup = _opened(model, adapter, device=device, dtype=dtype)
    loaded, shapes = _drawn(packs, CALIBRATION, scale, tokens)
    weights = calibrated_weights(
        setup, loaded, shapes, batches=batches, landmarks=adapter is not None
    )
    weights = prune_weights(weights, smallest)
    if adapter is None:
        out.parent.mkdir(parents=True, exist_ok=True)
        save_file({"selection": weights.cpu()}, out)
    else:
        setup.save(out, weights, {"calibrated_batches": batches})


@app.command()
def probe(
    pack: Path,
    adapter: Annotated[Path, typer.Option(help="Adapter to measure.")],
    texts: Annotated[
        Path | None, typer.Option(help="Texts to measure the language gap on.")
    ] = None,
    model: Model = None,
    tokens: int = 4096,
    budgets: str = "256,512",
    limit: int = 600,
    dtype: Number = None,
    device: str | None = None,
) -> None:
    """Measure an adapter on held-out questions, and on running text."""
    setup = _opened(model, adapter, device=device, dtype=dtype)
    wanted = tuple(int(budget) for budget in budgets.split(","))
    settings = ProbeSettings(tokens=tokens, limit=limit, budgets=wanted)
    selection = setup.trainable.selection().detach()
    found: dict[str, object] = {
        str(budget): scores
        for budget, scores in measured(
            setup, QuestionPack.load(pack), read_gold(pack), selection, settings
        ).items()
    }
    if texts is not None:
        found["gap"] = measured_gap(setup, load_texts(texts), 4)
    typer.echo(json.dumps(found, indent=2))


def _frame(model: str | None) -> PromptFrame:
    return PromptFrame(LocalModel.load(model, device="cpu").tokenizer, Prompt())


def _opened(
    model: str | None, adapter: Path | None, *, device: str | None, dtype: str | None
) -> Setup:
    local = LocalModel.load(model, device=device, dtype=dtype)
    if adapter is None:
        return open_setup(local, LandmarkSettings())
    known = load_adapter(adapter)
    first = known.projections[0]["q"]
    if not isinstance(first, LowRankProjection):
        raise typer.BadParameter("the adapter has full projections; expected low-rank ones")
    rank = first.down.shape[0]
    landmarks = LandmarkSettings(rank=rank, interval_tokens=known.interval_tokens)
    return open_setup(local, landmarks, start=adapter)


def _drawn(
    packs: list[Path], shapes: tuple[StepShape, ...], scale: float, tokens: int
) -> tuple[dict[str, QuestionPack], list[StepShape]]:
    loaded = {path.stem: QuestionPack.load(path) for path in packs}
    fitting = [shape for shape in shapes if shape.tokens <= tokens and shape.pack in loaded]
    if not fitting:
        raise typer.BadParameter(
            f"packs {sorted(loaded)} up to {tokens} tokens fit no shape of the recipe; expected "
            f"one of {sorted({shape.pack for shape in shapes})}: name the files so, or raise tokens"
        )
    return loaded, [shape.scaled(scale) for shape in fitting]


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    app()
