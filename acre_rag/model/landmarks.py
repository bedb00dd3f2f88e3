"""Landmark projections: what a landmark's row goes through instead of the model's own.

ACRE, section 3.1: a landmark has an embedding and q, k, v projections of its own; all else is the
frozen model's. Besides the landmarks of documents an adapter may have some of the question, which
the paper does not (docs/decisions/0011): they stand before the last token of the prompt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from acre_rag.errors import AdapterError
from acre_rag.model.support import ModelShape

_QUESTION_GROUPS = 3


def question_groups(question_landmarks: int) -> int:
    """Count the groups of rows that look at landmarks; landmarks of the question are one more."""
    return _QUESTION_GROUPS + (question_landmarks > 0)


@dataclass(frozen=True, slots=True)
class LowRankProjection:
    """A low-rank change to a frozen projection: `x @ down.T @ up.T` is added.

    Attributes:
        down: (rank, inputs).
        up: (outputs, rank).
    """

    down: Tensor
    up: Tensor

    def apply(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        """Project rows (batch, rows, inputs), given what the frozen projection made of them."""
        return outputs + self.change(inputs)

    def change(self, inputs: Tensor) -> Tensor:
        """Compute what is added for rows (batch, rows, inputs)."""
        return inputs @ self.down.to(inputs).T @ self.up.to(inputs).T

    def near(self, weight: Tensor) -> "LowRankProjection":
        """Give it in the number type and on the device of a frozen weight."""
        return LowRankProjection(near(self.down, weight), near(self.up, weight))


@dataclass(frozen=True, slots=True)
class FullProjection:
    """A projection in place of the frozen one.

    Attributes:
        weight: (outputs, inputs).
        bias: (outputs,), or `None`.
    """

    weight: Tensor
    bias: Tensor | None

    def apply(self, inputs: Tensor, outputs: Tensor) -> Tensor:  # noqa: ARG002  # as above
        """Project rows (batch, rows, inputs), whatever the frozen projection made of them."""
        bias = None if self.bias is None else self.bias.to(inputs)
        return nn.functional.linear(inputs, self.weight.to(inputs), bias)

    def near(self, weight: Tensor) -> "FullProjection":
        """Give it in the number type and on the device of a frozen weight."""
        bias = None if self.bias is None else near(self.bias, weight)
        return FullProjection(near(self.weight, weight), bias)


Projection = LowRankProjection | FullProjection


@dataclass(frozen=True, slots=True, kw_only=True)
class LandmarkAdapter:
    """The trained part of ACRE for one model.

    Attributes:
        embedding: Embedding that every landmark starts from, (hidden,).
        projections: One mapping a layer, from `q`, `k` and `v` to the landmark's projection.
        selection: Weight of each head in a landmark's score, (layers, q_heads, question
            groups), adding up to 1; `None` where it was not trained (ACRE's published rule).
        interval_tokens: Interval that the landmarks were trained for.
        refill_score: Score from which `refill_tokens="auto"` refills an interval; `None` where it
            was not fitted.
        question_embeddings: Embedding that each landmark of the question starts from, (question
            landmarks, hidden); `None` where there are none.
    """

    embedding: Tensor
    projections: Sequence[Mapping[str, Projection]]
    selection: Tensor | None
    interval_tokens: int
    refill_score: float | None = None
    question_embeddings: Tensor | None = None

    @property
    def question_landmarks(self) -> int:
        """Landmarks that stand before the last token of a prompt."""
        return 0 if self.question_embeddings is None else len(self.question_embeddings)

    def check(self, shape: ModelShape) -> None:
        """Compare the adapter's sizes with a model's.

        Raises:
            AdapterError: It was made for another model.
        """
        found = (len(self.projections), self.embedding.shape[0])
        expected = (shape.layers, shape.hidden)
        if found != expected:
            raise AdapterError(
                f"the adapter has {found[0]} layers of hidden size {found[1]}, the model "
                f"{expected[0]} of {expected[1]}: use the adapter that was trained for this model"
            )
        if self.question_embeddings is not None:
            self._check_question_embeddings(self.question_embeddings, shape)
        for layer in self.projections:
            for name, projection in layer.items():
                heads = shape.q_heads if name == "q" else shape.kv_heads
                self._check_projection(name, projection, heads * shape.head_dim, shape.hidden)
        weights = (shape.layers, shape.q_heads, question_groups(self.question_landmarks))
        if self.selection is not None and tuple(self.selection.shape) != weights:
            raise AdapterError(
                f"the adapter's selection weights are {tuple(self.selection.shape)}; expected "
                f"{weights} (layers, heads, question groups): use the adapter that was trained "
                "for this model"
            )

    def _check_question_embeddings(self, found: Tensor, shape: ModelShape) -> None:
        if found.dim() != 2 or not len(found) or found.shape[1] != shape.hidden:
            raise AdapterError(
                f"the adapter's question landmarks are {tuple(found.shape)}; expected one or more "
                f"of hidden size {shape.hidden}: use the adapter that was trained for this model"
            )

    def _check_projection(
        self, name: str, projection: Projection, outputs: int, inputs: int
    ) -> None:
        if isinstance(projection, LowRankProjection):
            found = (projection.up.shape[0], projection.down.shape[1])
        else:
            found = (projection.weight.shape[0], projection.weight.shape[1])
        if found != (outputs, inputs):
            raise AdapterError(
                f"the adapter's {name} projection maps {found[1]} to {found[0]}, the model's "
                f"{inputs} to {outputs}: use the adapter that was trained for this model"
            )


def install_landmarks(attention: Sequence[nn.Module], adapter: LandmarkAdapter) -> None:
    """Let the landmark rows of a pass through the adapter's projections, for good.

    The rows come with the pass (keyword `acre`), so that a module keeps no state from one
    window to the next: recomputing a layer for its gradient sees the same rows again.

    Args:
        attention: Attention module of each layer of a reading twin.
        adapter: Projections, one mapping a layer.
    """
    for module, projections in zip(attention, adapter.projections, strict=True):
        rows = _LandmarkRows()
        module.register_forward_pre_hook(rows.note, with_kwargs=True)
        module.register_forward_hook(rows.forget)
        if hasattr(module, "qkv_proj"):
            fused: nn.Module = module.qkv_proj  # type: ignore[assignment]  # looked for above
            own = {n: p.near(fused.weight) for n, p in projections.items()}  # type: ignore[arg-type]
            fused.register_forward_hook(_FusedHook(rows, own))
            continue
        for name, projection in projections.items():
            linear: nn.Module = getattr(module, f"{name}_proj")
            own_projection = projection.near(linear.weight)  # type: ignore[arg-type]
            linear.register_forward_hook(_ProjectionHook(rows, own_projection))


class _LandmarkRows:
    """Which rows of the pass at hand are landmarks, for one layer, and what its projections get.

    They are the same in all of a batch, (landmarks,), or counted through all of its rows, (batch,
    landmarks).
    """

    rows: Tensor | None = None
    _inputs: Tensor | None = None
    _gathered: Tensor | None = None

    def note(self, _module: nn.Module, _args: object, kwargs: dict[str, object]) -> None:
        self.rows = kwargs["acre"].landmark_rows  # type: ignore[attr-defined]
        self.forget()

    def of(self, inputs: Tensor) -> Tensor:
        """Gather a projection's inputs: once for all that are given the same."""
        if self._gathered is None or self._inputs is not inputs:
            self._inputs, self._gathered = inputs, self.taken(inputs)
        return self._gathered

    def taken(self, tensor: Tensor) -> Tensor:
        """Gather the landmarks' rows: (1 or batch, landmarks, width)."""
        return self._batch(tensor).index_select(1, self._places(tensor))

    def put(self, outputs: Tensor, changed: Tensor) -> Tensor:
        """Put what was made of the landmarks' rows in the place of theirs; same shape."""
        batch, places = self._batch(outputs), self._places(outputs)
        return batch.index_copy(1, places, changed.to(outputs.dtype)).view_as(outputs)

    def add(self, outputs: Tensor, change: Tensor) -> Tensor:
        """Add to the landmarks' rows, in place; same shape."""
        batch, places = self._batch(outputs), self._places(outputs)
        return batch.index_add_(1, places, change.to(outputs.dtype)).view_as(outputs)

    def _batch(self, tensor: Tensor) -> Tensor:
        """See a batch, (batch, rows, width), as `rows` counts: as it is, or as (1, all, width)."""
        one = self.rows is not None and self.rows.dim() == 2
        return tensor.flatten(0, 1)[None] if one else tensor

    def _places(self, tensor: Tensor) -> Tensor:
        if self.rows is None:
            raise ValueError("the pass has no landmarks; expected some: leave the rows as they are")
        return self.rows.flatten().to(tensor.device)

    def forget(self, *_: object) -> None:
        """Let go of tensors: they are as large as a layer's own."""
        self._inputs = self._gathered = None


@dataclass(frozen=True, slots=True)
class _ProjectionHook:
    landmarks: _LandmarkRows
    projection: Projection

    def __call__(self, _module: nn.Module, args: tuple[Tensor, ...], outputs: Tensor) -> Tensor:
        if self.landmarks.rows is None:
            return outputs
        inputs = self.landmarks.of(args[0])
        if isinstance(self.projection, LowRankProjection):
            # In place, since nobody else has the outputs: their gradient then passes untouched.
            return self.landmarks.add(outputs, self.projection.change(inputs))
        changed = self.projection.apply(inputs, self.landmarks.taken(outputs))
        return self.landmarks.put(outputs, changed)


@dataclass(frozen=True, slots=True)
class _FusedHook:
    """The same for a fused projection, whose outputs are q, k and v in a row."""

    landmarks: _LandmarkRows
    projections: Mapping[str, Projection]

    def __call__(self, _module: nn.Module, args: tuple[Tensor, ...], outputs: Tensor) -> Tensor:
        if self.landmarks.rows is None:
            return outputs
        inputs = self.landmarks.taken(args[0])
        widths = [_outputs(self.projections[name]) for name in "qkv"]
        parts = self.landmarks.taken(outputs).split(widths, dim=-1)
        named = zip("qkv", parts, strict=True)
        changed = torch.cat([self.projections[n].apply(inputs, p) for n, p in named], dim=-1)
        return self.landmarks.put(outputs, changed)


def near(tensor: Tensor, weight: Tensor) -> Tensor:
    """Bring a tensor to a frozen weight, once and for all; one that is trained stays what it is.

    Brought anew for every pass it would make the host wait for a GPU, six times a layer.
    """
    frozen = not tensor.requires_grad and weight.is_floating_point()
    return tensor.to(weight) if frozen else tensor


def _outputs(projection: Projection) -> int:
    if isinstance(projection, LowRankProjection):
        return projection.up.shape[0]
    return projection.weight.shape[0]
