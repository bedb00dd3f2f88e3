"""The tensors that training changes, and the adapter that is made of them."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from acre_rag.errors import AdapterError
from acre_rag.model.landmarks import LandmarkAdapter, LowRankProjection, question_groups
from acre_rag.model.support import ModelShape

_APART = 0.5  # of the spread of an embedding's numbers
_NEW_SHARE = 0.1  # of all weight, for a group of rows that no weights are known for


class TrainableAdapter(nn.Module):
    """A low-rank landmark adapter in float32, whose tensors are parameters.

    Args:
        shape: Sizes of the model.
        embedding: Embedding that landmarks start from, (hidden,).
        rank: Rank of every projection's change.
        interval_tokens: Interval that the landmarks are trained for.
        question_landmarks: Landmarks of a question.
        seed: Of the random half of each projection; the other half starts at zero, so that a new
            adapter's projections are the model's own.
    """

    def __init__(
        self,
        shape: ModelShape,
        embedding: Tensor,
        *,
        rank: int,
        interval_tokens: int,
        seed: int,
        question_landmarks: int = 0,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.interval_tokens = interval_tokens
        self.embedding = nn.Parameter(embedding.detach().float().cpu().clone())
        heads = (shape.layers, shape.q_heads, question_groups(question_landmarks))
        self.selection_logits = nn.Parameter(torch.zeros(heads))
        self.question_embeddings: nn.Parameter | None = None
        if question_landmarks:
            # Told apart by where they start: their order alone would say little.
            apart = torch.randn(question_landmarks, shape.hidden, generator=generator)
            spread = self.embedding.detach().std() * _APART
            self.question_embeddings = nn.Parameter(self.embedding.detach() + apart * spread)
        self.down = nn.ParameterDict()
        self.up = nn.ParameterDict()
        for layer in range(shape.layers):
            for name in "qkv":
                outputs = (shape.q_heads if name == "q" else shape.kv_heads) * shape.head_dim
                random = torch.randn(rank, shape.hidden, generator=generator)
                self.down[f"{layer}_{name}"] = nn.Parameter(random * shape.hidden**-0.5)
                self.up[f"{layer}_{name}"] = nn.Parameter(torch.zeros(outputs, rank))

    @property
    def layers(self) -> int:
        """Decoder layers."""
        return self.selection_logits.shape[0]

    def selection(self) -> Tensor:
        """Weights of the heads, (layers, q_heads, question groups), adding up to 1."""
        logits = self.selection_logits
        return logits.flatten().softmax(0).view_as(logits)

    def adapter(self) -> LandmarkAdapter:
        """Make an adapter around the parameters themselves: it changes as they do.

        Its selection weights are left out: scoring while training takes `selection()`.
        """
        return LandmarkAdapter(
            embedding=self.embedding,
            projections=[self._projections(layer) for layer in range(self.layers)],
            selection=None,
            interval_tokens=self.interval_tokens,
            question_embeddings=self.question_embeddings,
        )

    def finished(self, selection: Tensor | None, dtype: torch.dtype) -> LandmarkAdapter:
        """Copy the adapter as it is now, to save; selection weights stay in float32."""
        projections = [
            {
                name: LowRankProjection(
                    projection.down.detach().to(dtype), projection.up.detach().to(dtype)
                )
                for name, projection in self._projections(layer).items()
            }
            for layer in range(self.layers)
        ]
        chosen = self.selection() if selection is None else selection
        own = self.question_embeddings
        return LandmarkAdapter(
            embedding=self.embedding.detach().to(dtype),
            projections=projections,
            selection=chosen.detach().float(),
            interval_tokens=self.interval_tokens,
            question_embeddings=None if own is None else own.detach().to(dtype),
        )

    def take(self, adapter: LandmarkAdapter) -> None:
        """Start from an adapter that was saved.

        Raises:
            AdapterError: It has another rank, or full projections.
        """
        with torch.no_grad():
            self.embedding.copy_(adapter.embedding)
            for layer, projections in enumerate(adapter.projections):
                for name, projection in projections.items():
                    if not isinstance(projection, LowRankProjection):
                        raise AdapterError(
                            f"layer {layer} has a full {name} projection; expected a low-rank one: "
                            "start from an adapter that this command made"
                        )
                    self._check_rank(projection)
                    self.down[f"{layer}_{name}"].copy_(projection.down)
                    self.up[f"{layer}_{name}"].copy_(projection.up)
            self._take_question(adapter)
            if adapter.selection is not None:
                self._take_selection(adapter.selection)

    def groups(self, learning_rate: float, selection_rate: float) -> list[dict[str, object]]:
        """Split the parameters into optimizer groups; selection weights learn faster."""
        rest = [p for name, p in self.named_parameters() if name != "selection_logits"]
        return [
            {"params": rest, "lr": learning_rate},
            {"params": [self.selection_logits], "lr": selection_rate},
        ]

    def _take_question(self, adapter: LandmarkAdapter) -> None:
        own, theirs = self.question_embeddings, adapter.question_embeddings
        if own is None and theirs is None:
            return
        if own is None or (theirs is not None and len(theirs) != len(own)):
            raise AdapterError(
                f"the adapter to start from has {adapter.question_landmarks} landmarks of the "
                f"question; expected {0 if own is None else len(own)}: set --question-landmarks to "
                f"{adapter.question_landmarks}"
            )
        # Where it has none, new ones stand around the landmark that it has.
        around = own - own.mean(dim=0) + adapter.embedding.to(own)
        own.copy_(around if theirs is None else theirs)

    def _take_selection(self, theirs: Tensor) -> None:
        known = theirs.to(self.selection_logits)
        if known.shape[2] < self.selection_logits.shape[2]:
            # What looks from the last token where the answer is may look so from before it.
            last = known[:, :, -1:]
            known = torch.cat([known, last / last.sum().clamp(min=1e-6) * _NEW_SHARE], dim=2)
        self.selection_logits.copy_(known.clamp(min=1e-6).log())

    def _check_rank(self, projection: LowRankProjection) -> None:
        found, expected = projection.down.shape[0], self.down["0_q"].shape[0]
        if found != expected:
            raise AdapterError(
                f"the adapter to start from has rank {found}; expected {expected}: set the rank to "
                f"{found}"
            )

    def _projections(self, layer: int) -> Mapping[str, LowRankProjection]:
        return {
            name: LowRankProjection(self.down[f"{layer}_{name}"], self.up[f"{layer}_{name}"])
            for name in "qkv"
        }
