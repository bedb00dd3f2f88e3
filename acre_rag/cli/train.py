"""`acre train`: landmark adapters in two stages, what is fitted after them, and baselines."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acre_rag.cli import options
from acre_rag.cli import train_options as given
from acre_rag.cli.failures import MisuseError
from acre_rag.cli.show import show_json

if TYPE_CHECKING:
    from acre_rag.model.local import LocalModel
    from acre_rag.model.prompt import PromptFrame
    from acre_rag.train.checks import Checks
    from acre_rag.train.loop import LoopSettings
    from acre_rag.train.setup import Setup

app = typer.Typer(
    help="Train landmark adapters: stage1 on running text, then stage2 on questions, then "
    "calibrate. Several GPUs: `accelerate launch $(which acre) train ...`.",
    no_args_is_help=True,
    add_completion=False,
)


@app.command()
def stage1(
    texts: given.Texts,
    *,
    out: given.Out,
    start: given.Start = None,
    steps: given.Steps = 370,
    documents: given.Documents = 24,
    share: given.Share = 0.2,
    learning_rate: given.LearningRate = 2e-3,
    next_token: given.NextToken = False,
    rank: given.Rank = 64,
    window_tokens: given.WindowTokens = 1024,
    check: given.Check = None,
    check_every: given.CheckEvery = 100,
    check_limit: given.CheckLimit = 200,
    seed: given.Seed = 0,
    stop_seconds: given.StopSeconds = math.inf,
    workers: given.Workers = 0,
    compiled: given.Compiled = False,
    model: options.Model = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    debug: options.Debug = False,
) -> None:
    """Distil the model's own full attention over earlier windows into landmarks.

    No labels are needed: any running text will do. A run that was interrupted, or stopped, goes
    on from its last checkpoint when the same command is given again.

    For example:

        acre train stage1 novels.jsonl.gz manual.txt --out run/1
    """
    del debug
    given.show_progress()
    from acre_rag.train.data import open_texts
    from acre_rag.train.record import draw_curves
    from acre_rag.train.setup import LandmarkSettings, open_setup
    from acre_rag.train.stages import TextPlan, text_steps, train_on_texts

    settings = _loop(steps, learning_rate, 0.0, stop_seconds, workers)
    plan = TextPlan(documents=documents, share=share, next_token=next_token, seed=seed)
    landmarks = LandmarkSettings(rank=rank, window_tokens=window_tokens, seed=seed)
    _record(out, "stage1", [*texts, check], settings, plan, landmarks)
    local = _local(model, device, dtype)
    setup = open_setup(local, landmarks, start=start, compiled=compiled)
    drawn = text_steps(open_texts(texts, setup.frame), plan, window_tokens)
    checks = _checks(setup, check, check_every, check_limit, out)
    train_on_texts(setup, drawn, settings, out, next_token=next_token, after_step=checks)
    draw_curves(out)


@app.command()
def stage2(
    questions: given.Questions,
    *,
    out: given.Out,
    start: given.Start = None,
    texts: given.MixedTexts = None,
    text_every: given.TextEvery = 3,
    text_documents: given.Documents = 12,
    text_weight: given.TextWeight = 4.0,
    steps: given.Steps = 745,
    scale: given.Scale = 1.0,
    tokens: given.Tokens = 16384,
    learning_rate: given.LearningRate = 2e-3,
    selection_rate: given.SelectionRate = 3e-2,
    selection_weight: given.SelectionWeight = 0.7,
    rank: given.Rank = 64,
    window_tokens: given.WindowTokens = 1024,
    check: given.Check = None,
    check_every: given.CheckEvery = 100,
    check_limit: given.CheckLimit = 200,
    seed: given.Seed = 1,
    stop_seconds: given.StopSeconds = math.inf,
    workers: given.Workers = 0,
    compiled: given.Compiled = False,
    graphed: given.Graphed = False,
    model: options.Model = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    debug: options.Debug = False,
) -> None:
    """Learn to select, and to answer over refilled memories, from questions with answers.

    For example:

        acre train stage2 squad-train.jsonl.gz --out run/2 --start run/1/adapter --texts novels.txt
    """
    del debug
    given.show_progress()
    from acre_rag.train.batches import QuestionSteps
    from acre_rag.train.data import fitting_shapes, open_packs, open_texts
    from acre_rag.train.recipe import SHAPES
    from acre_rag.train.record import draw_curves
    from acre_rag.train.setup import LandmarkSettings, open_setup
    from acre_rag.train.stages import (
        MixedSteps,
        QuestionPlan,
        TextPlan,
        text_steps,
        train_on_questions,
    )

    settings = _loop(steps, learning_rate, selection_rate, stop_seconds, workers, graphed=graphed)
    plan = QuestionPlan(
        selection_weight=selection_weight, text_every=text_every, text_weight=text_weight
    )
    landmarks = LandmarkSettings(rank=rank, window_tokens=window_tokens)
    _record(out, "stage2", [*questions, texts, check], settings, plan, landmarks)
    local = _local(model, device, dtype)
    setup = open_setup(local, landmarks, start=start, compiled=compiled)
    packs = open_packs(questions, setup.frame)
    shapes = fitting_shapes(packs, SHAPES, scale=scale, tokens=tokens)
    running = None
    if texts is not None:
        text_plan = TextPlan(documents=text_documents, seed=seed)
        running = text_steps(open_texts([texts], setup.frame), text_plan, window_tokens)
    drawn = MixedSteps(QuestionSteps(packs, shapes, setup.settings, seed=seed), running, text_every)
    checks = _checks(setup, check, check_every, check_limit, out)
    train_on_questions(setup, drawn, plan, settings, out, after_step=checks)
    draw_curves(out)


@app.command()
def baseline(
    questions: given.Questions,
    *,
    out: given.Out,
    method: Annotated[
        given.Way,
        typer.Option(help="Show the whole text, or chunks that word search finds."),
    ] = given.Way.rag,
    steps: given.Steps = 745,
    scale: given.Scale = 0.5,
    tokens: given.Tokens = 4096,
    learning_rate: given.LearningRate = 5e-4,
    rank: given.Rank = 16,
    seed: given.Seed = 1,
    stop_seconds: given.StopSeconds = math.inf,
    workers: given.Workers = 0,
    model: options.Model = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    debug: options.Debug = False,
) -> None:
    """Tune a baseline's generator on the questions of stage2, by LoRA, for a fair comparison.

    `acre eval --tuned DIR/adapter` measures it beside the others.

    For example:

        acre train baseline squad-train.jsonl.gz --out run/rag --method rag --stop-seconds 240
    """
    del debug
    given.show_progress()
    from acre_rag.train.batches import QuestionSteps
    from acre_rag.train.data import fitting_shapes, open_packs
    from acre_rag.train.recipe import SHAPES
    from acre_rag.train.record import draw_curves
    from acre_rag.train.setup import LandmarkSettings, batch_settings
    from acre_rag.train.stages import train_baseline

    settings = _loop(steps, learning_rate, 0.0, stop_seconds, workers)
    _record(out, f"baseline {method.value}", [*questions], settings)
    local = _local(model, device, dtype)
    frame = _frame(local)
    packs = open_packs(questions, frame)
    shapes = fitting_shapes(packs, SHAPES, scale=scale, tokens=tokens)
    shapes = [shape for shape in shapes if shape.documents * shape.tokens <= tokens]
    batching = batch_settings(local, frame, LandmarkSettings())
    drawn = QuestionSteps(packs, shapes, batching, seed=seed)
    train_baseline(local, drawn, method.value, rank, settings, out)
    draw_curves(out)


@app.command()
def calibrate(
    questions: given.Questions,
    *,
    out: given.Out,
    adapter: given.Start = None,
    batches: Annotated[int, typer.Option(min=1, help="Batches to fit on.")] = 20,
    scale: given.Scale = 1.0,
    tokens: given.Tokens = 4096,
    smallest: Annotated[float, typer.Option(help="Weights below this are dropped.")] = 1e-3,
    inside: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Share of the questions whose evidence --refill-tokens auto shall bring back.",
        ),
    ] = 0.95,
    model: options.Model = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    debug: options.Debug = False,
) -> None:
    """Fit what is no projection: the weights of the heads, and the mass that `auto` is to reach.

    Takes minutes. Without an adapter this is all that the training-free mode can learn, and OUT
    is a file.

    For example:

        acre train calibrate squad-train.jsonl.gz --adapter run/2/adapter --out adapter
    """
    del debug
    from safetensors.torch import save_file
    from torch import tensor

    from acre_rag.train.batches import QuestionSteps
    from acre_rag.train.calibrate import prune_weights
    from acre_rag.train.data import fitting_shapes, open_packs
    from acre_rag.train.measure import calibrated_weights, fitted_mass
    from acre_rag.train.recipe import CALIBRATION

    setup = _opened(_local(model, device, dtype), adapter)
    packs = open_packs(questions, setup.frame)
    shapes = fitting_shapes(packs, CALIBRATION, scale=scale, tokens=tokens)
    landmarks = adapter is not None
    weights = prune_weights(
        calibrated_weights(setup, packs, shapes, batches=batches, landmarks=landmarks), smallest
    )
    others = QuestionSteps(packs, shapes, setup.settings, seed=1)
    mass = fitted_mass(
        setup, others, weights, share=inside, batches=max(batches // 2, 1), landmarks=landmarks
    )
    if landmarks:
        notes: dict[str, object] = {"calibrated_batches": batches, "auto_inside": inside}
        setup.save(out, weights, notes, refill_mass=mass)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        save_file({"selection": weights.cpu(), "refill_mass": tensor(mass)}, out)


@app.command()
def probe(
    questions: Annotated[Path, typer.Argument(help="Held-out questions.", show_default=False)],
    *,
    adapter: Annotated[Path, typer.Option(metavar="DIR", help="Adapter to measure.")],
    texts: given.MixedTexts = None,
    tokens: given.Tokens = 4096,
    budgets: Annotated[str, typer.Option(help="Refilled tokens, by commas.")] = "256,512",
    limit: given.CheckLimit = 600,
    model: options.Model = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    debug: options.Debug = False,
) -> None:
    """Measure an adapter quickly: on held-out questions, and on running text.

    `acre eval` measures it beside the baselines.
    """
    del debug
    from acre_rag.train.data import open_questions, open_texts
    from acre_rag.train.measure import measured, measured_gap
    from acre_rag.train.probe import ProbeSettings

    setup = _opened(_local(model, device, dtype), adapter)
    pack, gold = open_questions(questions, setup.frame)
    settings = ProbeSettings(tokens=tokens, limit=limit, budgets=_numbers(budgets))
    selection = setup.trainable.selection().detach()
    measures = measured(setup, pack, gold, selection, settings)
    found: dict[str, object] = {str(budget): scores for budget, scores in measures.items()}
    if texts is not None:
        found["gap"] = measured_gap(setup, open_texts([texts], setup.frame), 4)
    show_json(found)


@app.command()
def prepare_texts(
    paths: given.Texts,
    *,
    out: given.Out,
    skip_last: Annotated[int, typer.Option(min=0, help="Leave out the last of each file.")] = 0,
    only_last: Annotated[int, typer.Option(min=0, help="Take the last of each file alone.")] = 0,
    model: options.Model = None,
    debug: options.Debug = False,
) -> None:
    """Tokenize texts into a pack, once for many runs; the last may be kept for validation."""
    del debug
    from acre_rag.train.packs import save_texts
    from acre_rag.train.prepare import pack_texts

    frame = _frame(_local(model, "cpu", None))
    save_texts(pack_texts(paths, frame, skip_last=skip_last, only_last=only_last), out)


@app.command()
def prepare_questions(
    path: Annotated[Path, typer.Argument(help="JSON lines.", show_default=False)],
    *,
    out: given.Out,
    answer_tokens: Annotated[int, typer.Option(min=1, help="Longest answer to keep.")] = 24,
    instructions: options.Instructions = None,
    model: options.Model = None,
    debug: options.Debug = False,
) -> None:
    """Tokenize documents and questions into a pack, with the answers' words beside it."""
    del debug
    from acre_rag.train.prepare import pack_questions

    frame = _frame(_local(model, "cpu", None))
    pack, kept = pack_questions(path, frame, answer_tokens=answer_tokens, instructions=instructions)
    pack.save(out)
    lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept)
    out.with_suffix(".answers.jsonl").write_text(lines, encoding="utf-8")


def _loop(
    steps: int,
    rate: float,
    selection_rate: float,
    stop_seconds: float,
    workers: int,
    *,
    graphed: bool = False,
) -> "LoopSettings":
    from acre_rag.train.loop import LoopSettings

    return LoopSettings(
        steps=steps,
        learning_rate=rate,
        selection_rate=selection_rate,
        stop_seconds=stop_seconds,
        workers=workers,
        graphed=graphed,
    )


def _record(out: Path, command: str, data: list[Path | None], *plans: object) -> None:
    """Write down what a run is, before it begins."""
    from dataclasses import asdict

    from acre_rag.train.processes import Processes
    from acre_rag.train.record import start_record

    if Processes.here().first:
        settings = {type(plan).__name__: asdict(plan) for plan in plans}  # type: ignore[call-overload]
        files = [path for path in data if path is not None]
        start_record(out, {"command": command, **settings}, files)


def _local(model: str | None, device: str | None, dtype: options.NumberType | None) -> "LocalModel":
    from acre_rag.model.local import LocalModel
    from acre_rag.train.processes import own_device

    return LocalModel.load(model, device=own_device(device), dtype=dtype and dtype.value)


def _frame(local: "LocalModel") -> "PromptFrame":
    from acre_rag.config import Prompt
    from acre_rag.model.prompt import PromptFrame

    return PromptFrame(local.tokenizer, Prompt())


def _opened(local: "LocalModel", adapter: Path | None) -> "Setup":
    """Open an adapter that was trained, or none."""
    from acre_rag.model.adapter_files import load_adapter
    from acre_rag.train.setup import LandmarkSettings, open_setup, settings_of

    if adapter is None:
        return open_setup(local, LandmarkSettings())
    return open_setup(local, settings_of(load_adapter(adapter)), start=adapter)


def _checks(
    setup: "Setup", path: Path | None, every: int, limit: int, out: Path
) -> "Checks | None":
    from acre_rag.train.checks import Checks
    from acre_rag.train.data import open_questions
    from acre_rag.train.probe import ProbeSettings

    if path is None:
        return None
    pack, gold = open_questions(path, setup.frame)
    settings = ProbeSettings(limit=limit)
    return Checks(setup=setup, pack=pack, gold=gold, settings=settings, every=every, out=out)


def _numbers(given_budgets: str) -> tuple[int, ...]:
    try:
        return tuple(int(budget) for budget in given_budgets.split(","))
    except ValueError:
        raise MisuseError(
            f"budgets are {given_budgets!r}; expected numbers with commas between: 256,512"
        ) from None
