"""One further token of an answer, in tensors whose shapes and places never change.

A stock pass looks at as many tokens as there are, which is one more each time. Here every pass
looks at the whole room of a growing cache, and what is not there yet is masked: so one pass can be
captured, and replayed for every token that follows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from acre_rag.model.reading import ReadingTwin
from acre_rag.model.support import rotates, rotation_of

STEP_ATTENTION = "acre_step"
Room = tuple[Tensor, Tensor]
"""Keys and values of one layer with room behind, (batch, kv_heads, tokens and room, head_dim)."""


@dataclass(slots=True)
class _Pass:
    """State of one pass; it travels to every layer as a keyword argument."""

    rooms: Sequence[Room]
    place: Tensor
    hidden: Tensor
    cos: Tensor
    sin: Tensor
    layer: int = 0


class StepTwin(ReadingTwin):
    """Answers token by token with a model's weights, in a cache's own room."""

    def __init__(self, model: PreTrainedModel) -> None:
        AttentionInterface.register(STEP_ATTENTION, _attend)
        super().__init__(model, None, STEP_ATTENTION)


class Step:
    """One pass over one cache: put in ids, places and positions, run, take out logits.

    What is not there yet must be finite: its weight is 0, but not that of a NaN.

    Args:
        twin: Runs the model.
        rooms: Of each layer; written to.
        tokens: Tokens that are there.
        seen: Which of them each row of the batch sees, (batch, tokens), bool.
    """

    def __init__(
        self, twin: StepTwin, rooms: Sequence[Room], tokens: int, seen: Tensor | None
    ) -> None:
        keys, _ = rooms[0]
        batch, device = len(keys), keys.device
        self.rooms = rooms
        self.ids = torch.zeros(batch, 1, dtype=torch.long, device=device)
        self.positions = torch.zeros(batch, 1, dtype=torch.long, device=device)
        self.place = torch.zeros(1, dtype=torch.long, device=device)
        self.logits = torch.empty(0, device=device)
        self._twin = twin
        self._hidden = torch.ones(batch, keys.shape[2], dtype=torch.bool, device=device)
        self._hidden[:, :tokens] = False if seen is None else ~seen[:, :tokens]
        for room in rooms:
            for part in room:
                part[:, :, tokens:] = 0

    def run(self) -> None:
        """Compute the logits behind the ids, which are put into the cache."""
        self._hidden.index_fill_(1, self.place, value=False)
        cos, sin = self._twin.rotary(self.rooms[0][0], self.positions)
        state = _Pass(self.rooms, self.place, self._hidden, cos, sin)
        output = self._twin.model(
            input_ids=self.ids, position_ids=self.positions, use_cache=False, acre=state
        )
        self.logits = output.logits


def _attend(  # the framework calls it so
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001  # no such mask is made for this attention
    *,
    scaling: float,
    acre: _Pass,
    **_unused: object,
) -> tuple[Tensor, None]:
    """Put keys and values of one token into the room, and attend to all that is there."""
    keys, values = acre.rooms[acre.layer]
    acre.layer += 1
    if rotates(module):
        query, key = rotation_of(module)(query, key, acre.cos, acre.sin)
    keys.index_copy_(2, acre.place, key)
    values.index_copy_(2, acre.place, value)
    batch, q_heads, _, head_dim = query.shape
    # Query heads that share a key head are its rows.
    grouped = query.reshape(batch, keys.shape[1], -1, head_dim).float()
    logits = grouped @ keys.float().transpose(2, 3) * scaling
    logits = logits.masked_fill(acre.hidden[:, None, None], -torch.inf)
    attended = (logits.softmax(dim=3) @ values.float()).to(query.dtype)
    return attended.reshape(batch, 1, q_heads, -1), None
