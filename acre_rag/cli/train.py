"""`acre train`: landmark adapters in two stages, what is fitted after them, and baselines."""

from pathlib import Path
from typing import Annotated

import typer

from acre_rag.cli import train_options as given
from acre_rag.cli.groups import spread
from acre_rag.cli.prepare import prepare_questions, prepare_texts
from acre_rag.cli.show import show_json
from acre_rag.cli.train_session import (
    frame_of,
    known_weights,
    load_local,
    loop_settings,
    make_checks,
    numbers_of,
    opened_adapter,
    record_run,
)

app = typer.Typer(
    help="Train landmark adapters: stage1 on running text, then stage2 on questions, then "
    "calibrate. Several GPUs: `torchrun --nproc-per-node 4 $(which acre) train ...`, or "
    "`accelerate launch` in its place. On a GPU it takes torch 2.11 or newer.",
    no_args_is_help=True,
    add_completion=False,
)


@app.command()
@spread
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
    checking: given.CheckOptions,
    seed: given.Seed = 0,
    run: given.RunOptions,
    computing: given.ComputeOptions,
) -> None:
    """Distil the model's own full attention over earlier windows into landmarks.

    No labels are needed: any running text will do. A run that was interrupted, or stopped, goes
    on from its last checkpoint when the same command is given again.

    For example:

        acre train stage1 novels.jsonl.gz manual.txt --out run/1
    """
    given.show_progress()
    from acre_rag.train.data import open_texts
    from acre_rag.train.record import draw_curves
    from acre_rag.train.setup import LandmarkSettings, open_setup
    from acre_rag.train.stages import TextPlan, text_steps, train_on_texts

    settings = loop_settings(run, steps, learning_rate)
    plan = TextPlan(documents=documents, share=share, next_token=next_token, seed=seed)
    landmarks = LandmarkSettings(rank=rank, window_tokens=window_tokens, seed=seed)
    record_run(out, "stage1", [*texts, checking.check], settings, plan, landmarks)
    local = load_local(computing)
    setup = open_setup(local, landmarks, start=start, compiled=run.compiled)
    drawn = text_steps(open_texts(texts, setup.frame), plan, window_tokens)
    checks = make_checks(setup, checking, out)
    train_on_texts(setup, drawn, settings, out, next_token=next_token, after_step=checks)
    draw_curves(out)


@app.command()
@spread
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
    question_landmarks: given.QuestionLandmarks = 0,
    window_tokens: given.WindowTokens = 1024,
    checking: given.CheckOptions,
    seed: given.Seed = 1,
    graphed: given.Graphed = False,
    run: given.RunOptions,
    computing: given.ComputeOptions,
) -> None:
    """Learn to select, and to answer over refilled memories, from questions with answers.

    For example:

        acre train stage2 squad-train.jsonl.gz --out run/2 --start run/1/adapter --texts novels.txt
    """
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

    settings = loop_settings(run, steps, learning_rate, selection_rate, graphed=graphed)
    plan = QuestionPlan(
        selection_weight=selection_weight, text_every=text_every, text_weight=text_weight
    )
    landmarks = LandmarkSettings(
        rank=rank, window_tokens=window_tokens, question_landmarks=question_landmarks
    )
    record_run(out, "stage2", [*questions, texts, checking.check], settings, plan, landmarks)
    local = load_local(computing)
    setup = open_setup(local, landmarks, start=start, compiled=run.compiled)
    packs = open_packs(questions, setup.frame)
    shapes = fitting_shapes(packs, SHAPES, scale=scale, tokens=tokens)
    running = None
    if texts is not None:
        text_plan = TextPlan(documents=text_documents, seed=seed)
        running = text_steps(open_texts([texts], setup.frame), text_plan, window_tokens)
    drawn = MixedSteps(QuestionSteps(packs, shapes, setup.settings, seed=seed), running, text_every)
    checks = make_checks(setup, checking, out)
    train_on_questions(setup, drawn, plan, settings, out, after_step=checks)
    draw_curves(out)


@app.command()
@spread
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
    run: given.RunOptions,
    computing: given.ComputeOptions,
) -> None:
    """Tune a baseline's generator on the questions of stage2, by LoRA, for a fair comparison.

    `acre eval --tuned DIR/adapter` measures it beside the others.

    For example:

        acre train baseline squad-train.jsonl.gz --out run/rag --method rag --stop-seconds 240
    """
    given.show_progress()
    from acre_rag.train.batches import QuestionSteps
    from acre_rag.train.data import fitting_shapes, open_packs
    from acre_rag.train.recipe import SHAPES
    from acre_rag.train.record import draw_curves
    from acre_rag.train.setup import LandmarkSettings, batch_settings
    from acre_rag.train.stages import train_baseline

    settings = loop_settings(run, steps, learning_rate)
    record_run(out, f"baseline {method.value}", [*questions], settings)
    local = load_local(computing)
    frame = frame_of(local)
    packs = open_packs(questions, frame)
    shapes = fitting_shapes(packs, SHAPES, scale=scale, tokens=tokens)
    shapes = [shape for shape in shapes if shape.documents * shape.tokens <= tokens]
    batching = batch_settings(local, frame, LandmarkSettings())
    drawn = QuestionSteps(packs, shapes, batching, seed=seed)
    train_baseline(local, drawn, method.value, rank, settings, out)
    draw_curves(out)


@app.command()
@spread
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
    ] = 0.9,
    keep_weights: Annotated[
        bool,
        typer.Option("--keep-weights", help="Fit what --refill-tokens auto goes by alone."),
    ] = False,
    computing: given.ComputeOptions,
) -> None:
    """Fit what is no projection: the weights of the heads, and the score that `auto` goes by.

    Takes minutes. Without an adapter this is all that the training-free mode can learn, and OUT
    is a file.

    For example:

        acre train calibrate squad-train.jsonl.gz --adapter run/2/adapter --out adapter
    """
    from safetensors.torch import save_file
    from torch import tensor

    from acre_rag.model.adapter_files import read_notes
    from acre_rag.train.batches import QuestionSteps
    from acre_rag.train.calibrate import prune_weights
    from acre_rag.train.data import fitting_shapes, open_packs
    from acre_rag.train.measure import calibrated_weights, fitted_score
    from acre_rag.train.recipe import CALIBRATION

    setup = opened_adapter(load_local(computing), adapter)
    packs = open_packs(questions, setup.frame)
    shapes = fitting_shapes(packs, CALIBRATION, scale=scale, tokens=tokens)
    landmarks = adapter is not None
    if keep_weights:
        weights = known_weights(setup.local, adapter)
    else:
        weights = prune_weights(
            calibrated_weights(setup, packs, shapes, batches=batches, landmarks=landmarks), smallest
        )
    others = QuestionSteps(packs, shapes, setup.settings, seed=1)
    score = fitted_score(
        setup, others, weights, share=inside, batches=max(batches // 2, 1), landmarks=landmarks
    )
    if adapter is not None:
        notes = read_notes(adapter) | {"auto_inside": inside}
        if not keep_weights:
            notes["calibrated_batches"] = batches
        setup.save(out, weights, notes, refill_score=score)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        save_file({"selection": weights.cpu(), "refill_score": tensor(score)}, out)


@app.command()
@spread
def probe(
    questions: Annotated[Path, typer.Argument(help="Held-out questions.", show_default=False)],
    *,
    adapter: Annotated[Path, typer.Option(metavar="DIR", help="Adapter to measure.")],
    texts: given.MixedTexts = None,
    tokens: given.Tokens = 4096,
    budgets: Annotated[str, typer.Option(help="Refilled tokens, by commas.")] = "256,512",
    limit: given.CheckLimit = 600,
    computing: given.ComputeOptions,
) -> None:
    """Measure an adapter quickly: on held-out questions, and on running text.

    `acre eval` measures it beside the baselines.
    """
    from acre_rag.train.data import open_questions, open_texts
    from acre_rag.train.measure import measured, measured_gap
    from acre_rag.train.probe import ProbeSettings

    setup = opened_adapter(load_local(computing), adapter)
    pack, gold = open_questions(questions, setup.frame)
    settings = ProbeSettings(tokens=tokens, limit=limit, budgets=numbers_of(budgets))
    selection = setup.trainable.selection().detach()
    measures = measured(setup, pack, gold, selection, settings)
    found: dict[str, object] = {str(budget): scores for budget, scores in measures.items()}
    if texts is not None:
        found["gap"] = measured_gap(setup, open_texts([texts], setup.frame), 4)
    show_json(found)


for command in (prepare_texts, prepare_questions):
    app.command()(spread(command))
