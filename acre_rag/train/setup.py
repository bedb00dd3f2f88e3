"""Everything a training command starts from: model, prompt, adapter, trainer."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from acre_rag.config import Prompt
from acre_rag.errors import AdapterError
from acre_rag.model.adapter_files import AdapterCard, load_adapter, save_adapter
from acre_rag.model.landmarks import LandmarkAdapter, LowRankProjection
from acre_rag.model.local import LocalModel
from acre_rag.model.prompt import PromptFrame
from acre_rag.model.support import check_supported
from acre_rag.model.training_twin import TrainingTwin
from acre_rag.train.batches import BatchSettings
from acre_rag.train.recipe import REFUSALS
from acre_rag.train.steps import Trainer
from acre_rag.train.trainable import TrainableAdapter


@dataclass(frozen=True, slots=True, kw_only=True)
class LandmarkSettings:
    """What kind of adapter is trained.

    Attributes:
        rank: Rank of every projection's change.
        interval_tokens: Raw tokens that one landmark stands for.
        window_tokens: Raw tokens of a window.
        question_landmarks: Landmarks of a question.
        seed: Of a new adapter.
    """

    rank: int = 64
    interval_tokens: int = 16
    window_tokens: int = 1024
    question_landmarks: int = 0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A frozen model with an adapter to train.

    Attributes:
        local: Model and tokenizer.
        frame: Prompt around documents and questions.
        trainable: Parameters of the adapter.
        trainer: Computes losses.
        settings: How batches are drawn.
    """

    local: LocalModel
    frame: PromptFrame
    trainable: TrainableAdapter
    trainer: Trainer
    settings: BatchSettings = field(repr=False)

    def save(
        self,
        directory: Path,
        selection: torch.Tensor | None,
        notes: dict[str, object],
        *,
        refill_score: float | None = None,
    ) -> None:
        """Save the adapter as it is now, in bfloat16.

        Args:
            directory: Where to; made where it is missing.
            selection: Weights of the heads in place of the trained ones.
            notes: What else is worth keeping.
            refill_score: Score from which `auto` refills intervals, where it was fitted.
        """
        adapter = self.trainable.finished(selection, torch.bfloat16)
        adapter = replace(adapter, refill_score=refill_score)
        save_adapter(adapter, directory, AdapterCard(base_model=self.local.name, notes=notes))


def open_setup(
    local: LocalModel,
    landmarks: LandmarkSettings,
    *,
    start: Path | None = None,
    compiled: bool = False,
) -> Setup:
    """Make, or load, an adapter to train for a model.

    Args:
        local: Model and tokenizer; its weights are frozen.
        landmarks: What kind of adapter.
        start: Directory of an adapter to start from; `None` starts anew.
        compiled: Compile parts of the model.
    """
    local.model.requires_grad_(requires_grad=False)
    frame = PromptFrame(local.tokenizer, Prompt())
    prefix_ids = torch.tensor(frame.prefix_ids, device=local.device)
    # A token that ends a text means nothing by itself: a landmark may become anything from there.
    first = local.model.get_input_embeddings()(torch.zeros(1, dtype=torch.long).to(local.device))
    trainable = TrainableAdapter(
        check_supported(local.model),
        first[0],
        rank=landmarks.rank,
        interval_tokens=landmarks.interval_tokens,
        question_landmarks=landmarks.question_landmarks,
        seed=landmarks.seed,
    )
    if start is not None:
        known = load_adapter(start)
        known.check(check_supported(local.model))
        trainable.take(known)
    trainable.to(local.device)
    twin = TrainingTwin(local.model, trainable.adapter(), prefix_ids, compiled=compiled)
    settings = batch_settings(local, frame, landmarks)
    trainer = Trainer(local, twin, prefix_ids, landmarks.interval_tokens, compiled=compiled)
    return Setup(local=local, frame=frame, trainable=trainable, trainer=trainer, settings=settings)


def batch_settings(
    local: LocalModel, frame: PromptFrame, landmarks: LandmarkSettings
) -> BatchSettings:
    """Draw steps as the recipe says, for a model."""
    return BatchSettings(
        interval_tokens=landmarks.interval_tokens,
        window_tokens=landmarks.window_tokens,
        eos_id=end_of_turn(local),
        refusals=[frame.encode_with_offsets(text)[0] for text in REFUSALS],
        question_landmarks=landmarks.question_landmarks,
    )


def settings_of(adapter: LandmarkAdapter) -> LandmarkSettings:
    """Tell the settings that an adapter was made with.

    Raises:
        AdapterError: It has full projections, which are not trained here.
    """
    first = adapter.projections[0]["q"]
    if not isinstance(first, LowRankProjection):
        raise AdapterError(
            "the adapter has full projections; expected low-rank ones: take one that acre train "
            "made"
        )
    return LandmarkSettings(
        rank=first.down.shape[0],
        interval_tokens=adapter.interval_tokens,
        question_landmarks=adapter.question_landmarks,
    )


def end_of_turn(local: LocalModel) -> int:
    """Find the token that ends an answer."""
    configured = getattr(local.model.generation_config, "eos_token_id", None)
    if isinstance(configured, list):
        configured = configured[0]
    return int(local.tokenizer.eos_token_id if configured is None else configured)
