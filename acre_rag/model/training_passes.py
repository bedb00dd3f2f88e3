"""What a training pass remembers and how it attends, layer by layer.

A pass travels to every layer as the keyword argument `acre`. Its `attend` takes note of a layer's
queries (batch, q_heads, rows, head_dim), keys and values (batch, kv_heads, rows, head_dim), not
rotated, and attends to what lies in front of the rows: nothing, the landmarks of earlier windows,
or a memory of their own. `turn` is the family's rotation, perhaps compiled, or `None` in layers
that do not rotate. What was attended has the queries' shape.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention

from acre_rag.model.packing import WindowPacking
from acre_rag.model.support import Rotate

Layers = Sequence[Tensor]
"""One tensor a layer: stacked ones would cost a copy of all layers for each layer's gradient."""


@dataclass(slots=True, kw_only=True)
class PlainPass:
    """Rows with nothing in front of them, of which nothing is kept.

    Attributes:
        turn_of: Gives the rotation to use in place of a family's own: itself, or compiled.
        cos: Of the rows' positions, (1, rows, head_dim).
        sin: Same shape.
    """

    turn_of: Callable[[Rotate], Rotate]
    cos: Tensor
    sin: Tensor
    landmark_rows: Tensor | None = None

    def attend(
        self, turn: Rotate | None, query: Tensor, key: Tensor, value: Tensor, scaling: float
    ) -> Tensor:
        """Attend causally."""
        if turn is not None:
            query, key = turn(query, key, self.cos, self.sin)
        grouped = query.shape[1] != key.shape[1]
        return scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scaling, enable_gqa=grouped
        )


@dataclass(slots=True, kw_only=True)
class RecordedPass:
    """What all passes share that keep what they saw.

    Attributes:
        turn_of: As in `PlainPass`.
        cos: Of the rows' positions, (1 or batch, rows, head_dim).
        sin: Same shape.
        memory_cos: Of the positions of what lies in front, (1, memory, head_dim).
        memory_sin: Same shape.
        landmark_rows: Which rows are landmarks: in each of the batch, (landmarks,), or counted
            through all of its rows, (batch, landmarks).
        keys: Not rotated, one tensor a layer that has attended.
        values: Likewise.
        queries: Likewise.
    """

    turn_of: Callable[[Rotate], Rotate]
    cos: Tensor
    sin: Tensor
    memory_cos: Tensor
    memory_sin: Tensor
    landmark_rows: Tensor | None = None
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    queries: list[Tensor] = field(default_factory=list)

    def note(self, query: Tensor, key: Tensor, value: Tensor) -> int:
        """Keep what a layer saw; give the layer's number."""
        self.keys.append(key)
        self.values.append(value)
        self.queries.append(query)
        return len(self.keys) - 1

    def rotated(self, turn: Rotate | None, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Rotate rows to their positions."""
        return (query, key) if turn is None else turn(query, key, self.cos, self.sin)

    def memory_rotated(self, turn: Rotate | None, keys: Tensor) -> Tensor:
        """Rotate the keys of what lies in front."""
        return keys if turn is None else turned(turn, keys, self.memory_cos, self.memory_sin)


@dataclass(slots=True, kw_only=True)
class PrefixedPass(RecordedPass):
    """Windows of documents, document by document, behind one prefix.

    Attributes:
        prefix_keys: Not rotated, (1, kv_heads, prefix, head_dim) in each layer.
        prefix_values: Same shape.
    """

    prefix_keys: Layers
    prefix_values: Layers


@dataclass(slots=True, kw_only=True)
class WindowsPass(PrefixedPass):
    """Batch rows are the windows of documents, document by document, one window at a time.

    Attributes:
        windows: Windows of a document.
        landmark_rows: Which rows of each window are landmarks, (landmarks,).
    """

    windows: int
    landmark_rows: Tensor

    def attend(
        self, turn: Rotate | None, query: Tensor, key: Tensor, value: Tensor, scaling: float
    ) -> Tensor:
        """Let each window see the prefix, the landmarks before it and its own rows."""
        layer = self.note(query, key, value)
        remembered_keys = self._remembered(self.prefix_keys[layer], key)
        remembered_keys = self.memory_rotated(turn, remembered_keys)
        remembered_values = self._remembered(self.prefix_values[layer], value)
        query, key = self.rotated(turn, query, key)
        parts = [t.unflatten(0, (-1, self.windows)).unbind(1) for t in (query, key, value)]
        attended = []
        for window, (asked, keys, values) in enumerate(zip(*parts, strict=True)):
            seen = self.prefix_keys[layer].shape[2] + window * len(self.landmark_rows)
            behind = torch.cat([remembered_keys[:, :, :seen], keys], dim=2)
            told = torch.cat([remembered_values[:, :, :seen], values], dim=2)
            attended.append(_causal(asked, behind, told, scaling))
        return torch.stack(attended, dim=1).flatten(0, 1)

    def _remembered(self, prefix: Tensor, rows: Tensor) -> Tensor:
        """Join the prefix and every document's landmarks: (documents, kv_heads, all, head_dim)."""
        landmarks = rows.index_select(2, self.landmark_rows).unflatten(0, (-1, self.windows))
        joined = landmarks.transpose(1, 2).flatten(2, 3)
        return torch.cat([prefix.expand(len(joined), -1, -1, -1), joined], dim=2)


@dataclass(slots=True, kw_only=True)
class PackedPass(PrefixedPass):
    """The same as `WindowsPass`, all windows in one call; memory positions are the packed keys'.

    Attributes:
        packing: Where everything lies.
    """

    packing: WindowPacking

    def attend(
        self, turn: Rotate | None, query: Tensor, key: Tensor, value: Tensor, scaling: float
    ) -> Tensor:
        """Let each window see the prefix, the landmarks before it and its own rows."""
        layer = self.note(query, key, value)
        keys = self.packing.pack(self.prefix_keys[layer], key)
        values = self.packing.pack(self.prefix_values[layer], value)
        keys = self.memory_rotated(turn, keys.transpose(0, 1)[None])[0].transpose(0, 1)
        if turn is not None:
            query = turn(query, query[:, :0], self.cos, self.sin)[0]
        return self.packing.attend(query, keys, values, scaling)


@dataclass(slots=True, kw_only=True)
class RowsPass(RecordedPass):
    """Rows behind a memory of their own.

    Attributes:
        memory: Gives keys (not rotated) and values of a layer, each (batch, kv_heads, memory,
            head_dim).
    """

    memory: Callable[[int], tuple[Tensor, Tensor]]

    def attend(
        self, turn: Rotate | None, query: Tensor, key: Tensor, value: Tensor, scaling: float
    ) -> Tensor:
        """Let each row see the memory and the rows before it."""
        memory_keys, memory_values = self.memory(self.note(query, key, value))
        memory_keys = self.memory_rotated(turn, memory_keys)
        query, key = self.rotated(turn, query, key)
        key = torch.cat([memory_keys, key], dim=2)
        return _causal(query, key, torch.cat([memory_values, value], dim=2), scaling)


TrainingPass = PlainPass | WindowsPass | PackedPass | RowsPass


def turned(turn: Rotate, keys: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate keys alone: the function wants queries as well, and none of them stand in for it."""
    return turn(keys[:, :0], keys, cos, sin)[1]


def _causal(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
    rows, tokens = query.shape[2], key.shape[2]
    mask: Tensor = causal_lower_right(rows, tokens)
    if query.device.type != "cuda":
        mask = torch.ones(rows, tokens, dtype=torch.bool).tril(tokens - rows)
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
