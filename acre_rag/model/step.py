"""One pass over a cache in tensors whose shapes and places never change.

A stock pass looks at as many tokens as there are, which is more each time. Here every pass looks
at the whole room of a cache, and what a row must not see is masked: so one pass can be captured,
and replayed for whatever comes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

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
    places: Tensor
    hidden: Tensor
    cos: Tensor
    sin: Tensor
    queries: list[Tensor] = field(default_factory=list)


class StepTwin(ReadingTwin):
    """Runs rows through a model's weights, behind a cache and into its own room."""

    def __init__(self, model: PreTrainedModel) -> None:
        AttentionInterface.register(STEP_ATTENTION, _attend)
        super().__init__(model, None, STEP_ATTENTION)


class Step:
    """One pass over one cache: put in what is asked, run, take out what is answered.

    What a row must not see must be finite: its weight is 0, but not that of a NaN.

    Args:
        twin: Runs the model.
        rooms: Of each layer; written to.
        rows: Number of rows; those behind the last one that counts may hold anything.
        padding: Tokens in front that a row of the batch must not see, (batch, tokens and room),
            bool; `None` where all are seen.

    Attributes:
        ids: Token ids, (batch, rows).
        place: Where the first row goes in the cache, (1,).
        positions: Position of the first row, (batch, 1).
        last: Row whose logits are wanted, (1,).
        logits: Of that row, (batch, 1, tokens known).
        queries: Of each layer, not rotated, (batch, q_heads, rows, head_dim).
    """

    def __init__(
        self, twin: StepTwin, rooms: Sequence[Room], rows: int, padding: Tensor | None = None
    ) -> None:
        keys, _ = rooms[0]
        batch, device = len(keys), keys.device

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.long, device=device)

        self.rooms = rooms
        self.ids, self.positions = zeros(batch, rows), zeros(batch, 1)
        self.place, self.last = zeros(1), zeros(1)
        self.logits = torch.empty(0, device=device)
        self.queries: list[Tensor] = []
        self._twin = twin
        self._rows = torch.arange(rows, device=device)
        self._columns = torch.arange(keys.shape[2], device=device)
        self._padding = None if padding is None else padding[:, None]

    def ask(self, ids: Tensor, place: int, positions: Tensor | int) -> None:
        """Put in ids, (batch, some rows), the place of the first, and its position."""
        self.ids[:, : ids.shape[1]] = ids
        self.place.fill_(place)
        self.last.fill_(ids.shape[1] - 1)
        if isinstance(positions, int):
            self.positions.fill_(positions)
        else:
            self.positions.copy_(positions)

    def run(self) -> None:
        """Compute what follows the rows, which are put into the cache."""
        places, positions = self.place + self._rows, self.positions + self._rows
        hidden = (self._columns > places[:, None])[None]
        if self._padding is not None:
            hidden = hidden | self._padding
        cos, sin = self._twin.rotary(self.rooms[0][0], positions)
        state = _Pass(self.rooms, places, hidden, cos, sin)
        output = self._twin.model(
            input_ids=self.ids,
            position_ids=positions,
            use_cache=False,
            logits_to_keep=self.last,
            acre=state,
        )
        self.logits, self.queries = output.logits, state.queries


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
    """Put keys and values of the rows into the room, and attend to all that each row sees."""
    keys, values = acre.rooms[len(acre.queries)]
    acre.queries.append(query)
    if rotates(module):
        query, key = rotation_of(module)(query, key, acre.cos, acre.sin)
    keys.index_copy_(2, acre.places, key)
    values.index_copy_(2, acre.places, value)
    batch, q_heads, rows, head_dim = query.shape
    kv_heads, tokens = keys.shape[1:3]
    # Query heads that share a key head are its rows.
    grouped = (query.float() * scaling).reshape(batch, kv_heads, -1, head_dim)
    logits = (grouped @ keys.float().transpose(2, 3)).view(batch, q_heads, rows, tokens)
    logits.masked_fill_(acre.hidden[:, None], -torch.inf)
    weights = logits.softmax(dim=3).view(batch, kv_heads, -1, tokens)
    attended = (weights @ values.float()).view(batch, q_heads, rows, head_dim)
    return attended.to(query.dtype).transpose(1, 2).contiguous(), None
