"""Gradients of a step, computed anew by Python or replayed as a CUDA graph.

A small model's kernels are shorter than the time that Python takes to start them: replaying a
graph, captured once for each shape of batch, keeps the GPU busy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from acre_rag.train.steps import StepLoss

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11 on

Parts = dict[str, Tensor]


class MovableBatch(Protocol):
    """A dataclass of tensors and sizes."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def to(self, device: torch.device) -> "Self":
        """Move the tensors to a device."""
        ...


Batch = TypeVar("Batch", bound=MovableBatch)


@dataclass(frozen=True, slots=True)
class EagerGradients(Generic[Batch]):
    """Computes the loss of a batch, and leaves its gradients in the parameters.

    Attributes:
        loss_of: Loss of a batch.
        parameters: What is trained.
    """

    loss_of: Callable[[Batch], StepLoss]
    parameters: Sequence[nn.Parameter]

    def __call__(self, batch: Batch) -> Parts:
        """Replace the gradients; give the parts of the loss."""
        loss = self.loss_of(batch)
        found: Sequence[Tensor | None] = torch.autograd.grad(
            loss.total, self.parameters, allow_unused=True
        )
        for parameter, gradient in zip(self.parameters, found, strict=True):
            new = torch.zeros_like(parameter) if gradient is None else gradient
            if parameter.grad is None:
                parameter.grad = new.clone()
            else:
                # In place: a graph that was captured writes to the same memory.
                parameter.grad.copy_(new)
        return loss.parts


@dataclass(frozen=True, slots=True)
class _Captured(Generic[Batch]):
    batch: Batch
    graph: torch.cuda.CUDAGraph
    parts: Parts


class GraphedGradients(Generic[Batch]):
    """The same, with a CUDA graph for each shape that batches come in.

    Args:
        eager: Computes gradients, with nothing that waits for the GPU.
        device: Where the batches go.
    """

    def __init__(self, eager: EagerGradients[Batch], device: torch.device) -> None:
        self._eager = eager
        self._device = device
        self._captured: dict[tuple[object, ...], _Captured[Batch]] = {}
        self._pool: Any = None  # torch keeps the type of a pool to itself

    def __call__(self, batch: Batch) -> Parts:
        """Replace the gradients; give the parts of the loss."""
        signature = _signature(batch)
        if signature not in self._captured:
            self._captured[signature] = self._capture(batch)
        captured = self._captured[signature]
        for name, tensor in _tensors(batch).items():
            getattr(captured.batch, name).copy_(tensor)
        captured.graph.replay()
        # The next graph's replay may write over what this one gave.
        return {name: part.clone() for name, part in captured.parts.items()}

    def _capture(self, batch: Batch) -> _Captured[Batch]:
        static = batch.to(self._device)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            # What is compiled or set up at a first call must not happen while capturing.
            self._eager(static)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            parts = self._eager(static)
        self._pool = graph.pool()
        return _Captured(static, graph, parts)


def _tensors(batch: MovableBatch) -> dict[str, Tensor]:
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def _signature(batch: MovableBatch) -> tuple[object, ...]:
    values = (getattr(batch, field.name) for field in fields(batch))
    sizes = (value.shape if isinstance(value, Tensor) else value for value in values)
    return (type(batch), *sizes)
