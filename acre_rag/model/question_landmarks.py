"""Landmarks of the question: what an adapter has of them, and how they pass through the layers.

They stand before the last token of a prompt (docs/decisions/0011). Their projections are those of
all landmarks; between layers their rows are changed once more, by bottlenecks of their own
(Houlsby et al., 2019: parameter-efficient transfer learning, adapters), so that they read what the
landmarks of documents only sum up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from acre_rag.errors import AdapterError
from acre_rag.model.support import ModelShape


@dataclass(frozen=True, slots=True)
class QuestionLandmarks:
    """The trained part of the question's landmarks.

    Attributes:
        embeddings: What each of them starts from, (question landmarks, hidden).
        down: Into the bottleneck behind each layer but the last, (rank, hidden).
        up: Out of it, (hidden, rank).
    """

    embeddings: Tensor
    down: Sequence[Tensor]
    up: Sequence[Tensor]

    def check(self, shape: ModelShape) -> None:
        """Compare the sizes with a model's.

        Raises:
            AdapterError: They are of another model, or there are no landmarks.
        """
        tensors = self.tensors()
        rank = len(self.down[0]) if self.down else 0
        found = [tuple(tensor.shape) for tensor in tensors.values()]
        count = max(found[0][0] if found[0] else 0, 1)
        expected = [
            (count, shape.hidden),
            (shape.layers - 1, rank, shape.hidden),
            (shape.layers - 1, shape.hidden, rank),
        ]
        if found != expected:
            raise AdapterError(
                f"the adapter's landmarks of the question are {found}; expected {expected} "
                "(embeddings, down, up): use the adapter that was trained for this model"
            )

    def tensors(self) -> dict[str, Tensor]:
        """Name the tensors, as they are saved: those of the layers in one."""
        return {
            "question.embeddings": self.embeddings,
            "question.down": torch.stack(list(self.down)),
            "question.up": torch.stack(list(self.up)),
        }

    @staticmethod
    def of(tensors: Mapping[str, Tensor]) -> "QuestionLandmarks | None":
        """Find them among an adapter's tensors; `None` where it has none."""
        if "question.embeddings" not in tensors:
            return None
        down, up = (tensors[f"question.{part}"].unbind(0) for part in ("down", "up"))
        return QuestionLandmarks(tensors["question.embeddings"], down, up)

    def to(self, dtype: torch.dtype) -> "QuestionLandmarks":
        """Copy them as they are now, in a number type, without gradients."""
        copied = {name: tensor.detach().to(dtype) for name, tensor in self.tensors().items()}
        return QuestionLandmarks(
            copied["question.embeddings"], copied["question.down"], copied["question.up"]
        )


def install_bottlenecks(layers: Sequence[nn.Module], question: QuestionLandmarks) -> None:
    """Let the rows of the question's landmarks through their bottlenecks, for good.

    A pass tells them by rows that differ from entry to entry: (batch, landmarks).

    Args:
        layers: Decoder layers of a reading twin.
        question: The trained part.
    """
    for layer, down, up in zip(layers[:-1], question.down, question.up, strict=True):
        weight = next(layer.parameters())
        bottleneck = Bottleneck(_near(down, weight), _near(up, weight))
        layer.register_forward_hook(bottleneck, with_kwargs=True)


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """What is added to the question's landmarks behind one layer, as a hook.

    Attributes:
        down: (rank, hidden).
        up: (hidden, rank).
    """

    down: Tensor
    up: Tensor

    def __call__(  # noqa: D102  # the framework calls it
        self,
        _layer: nn.Module,
        _args: tuple[object, ...],
        kwargs: Mapping[str, object],
        states: Tensor,
    ) -> Tensor:
        rows: Tensor | None = kwargs["acre"].landmark_rows  # type: ignore[attr-defined]
        if rows is None or rows.dim() != 2:
            return states
        places = rows.flatten().to(states.device)
        flat = states.flatten(0, 1)
        own = flat.index_select(0, places)
        # A layer's states grow with depth; what is learned should not depend on that.
        even = nn.functional.rms_norm(own.float(), own.shape[-1:]).to(own.dtype)
        inner = nn.functional.silu(even @ self.down.to(own).T)
        return flat.index_add(0, places, inner @ self.up.to(own).T).view_as(states)


def _near(tensor: Tensor, weight: Tensor) -> Tensor:
    """Bring a frozen tensor to a layer, once and for all; a trained one stays what it is."""
    return tensor if tensor.requires_grad else tensor.to(weight)
