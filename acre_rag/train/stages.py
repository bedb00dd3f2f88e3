"""The training runs: landmarks on running text, landmarks on questions, a baseline's generator."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.utils.data import Dataset

from acre_rag.config import Prompt
from acre_rag.errors import DocumentError
from acre_rag.model.local import LocalModel
from acre_rag.model.lora import TunedModel
from acre_rag.model.prompt import PromptFrame
from acre_rag.train.baseline import BaselineSteps, PromptBatch, Way
from acre_rag.train.batches import QuestionBatch, QuestionSteps
from acre_rag.train.loop import LoopSettings, run_steps
from acre_rag.train.losses import answer_loss
from acre_rag.train.packs import Ragged
from acre_rag.train.processes import Processes
from acre_rag.train.recipe import TEXT_WINDOWS
from acre_rag.train.setup import Setup
from acre_rag.train.steps import StepLoss
from acre_rag.train.texts import TextBatch, TextSteps

AfterStep = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPlan:
    """Steps on running text.

    Attributes:
        documents: Documents of a batch.
        share: Share of the positions from the second window on to take the loss of.
        next_token: Predict the next token in place of the model's own distribution.
        seed: Of the draws.
    """

    documents: int
    share: float = 0.2
    next_token: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionPlan:
    """Steps on questions.

    Attributes:
        selection_weight: Weight of the selection loss beside the answer loss.
        text_every: Every so many steps one is on running text, where there is any.
        text_weight: Weight of such a step's loss.
    """

    selection_weight: float
    text_every: int
    text_weight: float


def text_steps(texts: Ragged, plan: TextPlan, window_tokens: int) -> TextSteps:
    """Draw batches of running text.

    Raises:
        DocumentError: There is less than one document of it.
    """
    longest = max(TEXT_WINDOWS) * window_tokens
    if len(texts.values) < longest:
        raise DocumentError(
            f"the texts have {len(texts.values)} tokens together; expected {longest} tokens or "
            "more: give more text, or lower window_tokens"
        )
    return TextSteps(
        texts,
        documents=plan.documents,
        windows=TEXT_WINDOWS,
        window_tokens=window_tokens,
        share=plan.share,
        seed=plan.seed,
    )


def train_on_texts(
    setup: Setup,
    texts: TextSteps,
    settings: LoopSettings,
    out: Path,
    *,
    next_token: bool = False,
    after_step: AfterStep | None = None,
) -> None:
    """Stage 1: distil full attention over earlier windows into landmarks."""

    def loss_of(batch: TextBatch) -> StepLoss:
        return setup.trainer.text_loss(batch.to(setup.local.device), next_token=next_token)

    done = run_steps(setup.trainable, texts, loss_of, settings, out, after_step)
    _save(setup, out, {"stage1_steps": done})


def train_on_questions(
    setup: Setup,
    steps: "MixedSteps",
    plan: QuestionPlan,
    settings: LoopSettings,
    out: Path,
    *,
    after_step: AfterStep | None = None,
) -> None:
    """Stage 2: learn to select, and to answer over refilled memories."""

    def loss_of(batch: QuestionBatch | TextBatch) -> StepLoss:
        if isinstance(batch, TextBatch):
            told = setup.trainer.text_loss(batch.to(setup.local.device))
            return replace(told, total=told.total * plan.text_weight)
        return setup.trainer.question_loss(
            batch.to(setup.local.device),
            setup.trainable.selection(),
            selection_weight=plan.selection_weight,
        )

    done = run_steps(setup.trainable, steps, loss_of, settings, out, after_step)
    _save(setup, out, {"stage2_steps": done})


class MixedSteps(Dataset[QuestionBatch | TextBatch]):
    """Questions, with running text every so many steps: what stage 1 taught stays learned."""

    def __init__(self, questions: QuestionSteps, texts: TextSteps | None, every: int) -> None:
        self._questions = questions
        self._texts = texts
        self._every = every

    def __getitem__(self, step: int) -> QuestionBatch | TextBatch:
        if self._texts is not None and step % self._every == self._every - 1:
            return self._texts[step]
        return self._questions[step]


def train_baseline(
    local: LocalModel,
    questions: QuestionSteps,
    way: Way,
    rank: int,
    settings: LoopSettings,
    out: Path,
) -> None:
    """Tune the generator of a baseline by low-rank changes, on the questions of stage 2."""
    frame = PromptFrame(local.tokenizer, Prompt())
    local.model.requires_grad_(requires_grad=False)
    torch.manual_seed(0)  # PEFT draws its changes from here
    tuned = TunedModel(local, rank)
    head = local.model.get_output_embeddings()
    between = frame.encode_with_offsets("\n")[0]
    steps = BaselineSteps(questions, frame.prefix_ids, between, way, local.tokenizer.decode)

    def loss_of(batch: PromptBatch) -> StepLoss:
        asked = batch.to(local.device)
        states = tuned.states(asked.ids, asked.mask(), asked.positions)
        told = asked.targets >= 0
        loss = answer_loss(head(states[told].to(head.weight.dtype)), asked.targets[told])
        return StepLoss(loss, {"answer": loss.detach()})

    done = run_steps(tuned, steps, loss_of, settings, out)
    if Processes.here().first:
        tuned.save(out / "adapter")
        kept = {"way": way, "base_model": local.name, "steps": done, "rank": rank}
        (out / "adapter" / "acre_baseline.json").write_text(json.dumps(kept, indent=1) + "\n")


def _save(setup: Setup, out: Path, notes: Mapping[str, object]) -> None:
    if Processes.here().first:
        setup.save(out / "adapter", None, dict(notes))
