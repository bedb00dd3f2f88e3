"""The training loop: optimizer, schedule, checkpoints, progress."""

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from acre_rag.errors import ACREError
from acre_rag.train.checkpoint import load_checkpoint, save_checkpoint
from acre_rag.train.graphs import Batch, EagerGradients, GraphedGradients
from acre_rag.train.processes import Processes
from acre_rag.train.steps import StepLoss

_log = logging.getLogger(__name__)


class TrainingError(ACREError):
    """Training cannot go on: the loss is no number, or memory ran out."""


class Trainable(Protocol):
    """A module whose parameters are trained."""

    def groups(self, learning_rate: float, selection_rate: float) -> list[dict[str, object]]:
        """Split the parameters into optimizer groups."""
        ...

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Give all parameters."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """Give all parameters with their names."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """How parameters are changed.

    Attributes:
        steps: Steps of the whole run; the learning rates fall over them as half a cosine.
        learning_rate: Highest rate of the landmark parameters.
        selection_rate: Highest rate of the selection logits.
        warmup: Steps until the rates are highest.
        clip: Largest norm of a step's gradient.
        checkpoint_seconds: Time between checkpoints.
        stop_seconds: Stop after this time, with a checkpoint; a later run goes on from there.
        log_steps: Steps between progress lines.
        workers: Processes that compose batches.
        graphed: Replay steps as CUDA graphs.
    """

    steps: int
    learning_rate: float
    selection_rate: float
    warmup: int = 30
    clip: float = 1.0
    checkpoint_seconds: float = 120.0
    stop_seconds: float = math.inf
    log_steps: int = 20
    workers: int = 0
    graphed: bool = False


def run_steps(
    trainable: Trainable,
    dataset: Dataset[Batch],
    loss_of: Callable[[Batch], StepLoss],
    settings: LoopSettings,
    directory: Path,
    after_step: Callable[[int], None] | None = None,
) -> int:
    """Train, continuing from a checkpoint where there is one.

    Several processes, one on each GPU, share a step: each takes a batch of its own, and all
    change their parameters by the mean of the gradients.

    Args:
        trainable: Parameters to change.
        dataset: Batches by step.
        loss_of: Loss of a batch.
        settings: How parameters are changed.
        directory: Where checkpoints and the log go.
        after_step: Called with the steps that are done, in every process.

    Returns:
        Steps that are done in all.

    Raises:
        TrainingError: The loss is no number, or memory ran out; the last checkpoint is good.
    """
    rates = trainable.groups(settings.learning_rate, settings.selection_rate)
    optimizer = torch.optim.AdamW(rates, betas=(0.9, 0.95), weight_decay=0.0)
    processes = Processes.here()
    done = load_checkpoint(directory, trainable, optimizer)
    schedule = [group["lr"] for group in optimizer.param_groups]
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=processes.own_batches(done, settings.steps),
        num_workers=settings.workers,
        prefetch_factor=4 if settings.workers else None,
    )
    progress = _Progress(directory, settings, writes=processes.first)
    parameters = list(trainable.parameters())
    eager = EagerGradients(loss_of, parameters)
    device = parameters[0].device
    gradients = GraphedGradients(eager, device) if settings.graphed else eager
    step = done
    for batch in loader:
        for group, highest in zip(optimizer.param_groups, schedule, strict=True):
            group["lr"] = highest * rate_factor(step, settings)
        try:
            parts = gradients(batch)
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"step {step} ran out of GPU memory; expected room for its documents and "
                "questions: lower --documents in stage 1, --scale or --tokens elsewhere"
            ) from error
        processes.average(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, settings.clip)
        optimizer.step()
        step += 1
        progress.note(step, {**parts, "gradient": norm})
        if after_step is not None:
            after_step(step)
        if progress.checkpoint_due() and step < settings.steps and processes.first:
            progress.line(step)  # what is no number must not replace a good checkpoint
            save_checkpoint(directory, trainable, optimizer, step, asdict(settings))
        if processes.agree(progress.seconds() > settings.stop_seconds):
            break
    progress.line(step)
    if processes.first:
        save_checkpoint(directory, trainable, optimizer, step, asdict(settings))
    processes.wait()
    return step


def rate_factor(step: int, settings: LoopSettings) -> float:
    """Share of the highest learning rate at a step: up in a line, down to a tenth as a cosine."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    progress = (step - settings.warmup) / max(settings.steps - settings.warmup, 1)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * min(progress, 1.0)))


class _Progress:
    """Sums up losses and says how things go."""

    def __init__(self, directory: Path, settings: LoopSettings, *, writes: bool) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._writes = writes
        self._file = directory / "log.jsonl"
        self._settings = settings
        self._started = self._noted = self._saved = time.monotonic()
        self._parts: dict[str, list[torch.Tensor]] = {}
        self._steps = 0

    def seconds(self) -> float:
        return time.monotonic() - self._started

    def checkpoint_due(self) -> bool:
        if time.monotonic() - self._saved < self._settings.checkpoint_seconds:
            return False
        self._saved = time.monotonic()
        return True

    def note(self, step: int, parts: Mapping[str, torch.Tensor]) -> None:
        for name, value in parts.items():
            self._parts.setdefault(name, []).append(value)
        self._steps += 1
        if step % self._settings.log_steps == 0:
            self.line(step)

    def line(self, step: int) -> None:
        if not self._steps:
            return
        means = {name: float(torch.stack(found).mean()) for name, found in self._parts.items()}
        now = time.monotonic()
        each = (now - self._noted) / self._steps
        record = {"step": step, "seconds": round(self.seconds(), 1), "step_seconds": each, **means}
        said = " ".join(f"{name} {value:.4f}" for name, value in means.items())
        if self._writes:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            _log.info("step %d/%d %s (%.3f s a step)", step, self._settings.steps, said, each)
        self._parts, self._steps, self._noted = {}, 0, now
        if not all(math.isfinite(value) for value in means.values()):
            raise TrainingError(
                f"the loss is no number at step {step} ({said}); expected a finite one: lower the "
                "learning rate, and start again from the last checkpoint"
            )
