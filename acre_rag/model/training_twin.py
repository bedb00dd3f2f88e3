"""A reading twin for training: all windows of many documents in one pass, memory layer by layer.

Window by window, a landmark's keys feed the next window layer by layer, so one pass over all
windows gives the same numbers: each layer hands its landmarks on before the next layer starts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from acre_rag.model.landmarks import LandmarkAdapter
from acre_rag.model.packing import WindowPacking, check_packing
from acre_rag.model.prefill import interleave, interleave_embeddings
from acre_rag.model.reading import ATTENTION_NAME, Pass, ReadingTwin
from acre_rag.model.support import Rotate, rotates, rotation_of

TRAINING_ATTENTION = "acre_training"

Layers = Sequence[Tensor]
"""One tensor a layer: stacked ones would cost a copy of all layers for each layer's gradient."""


@dataclass(frozen=True, slots=True)
class LayeredReading:
    """What one pass saw, layer by layer.

    Attributes:
        keys: Not rotated, (batch, kv_heads, rows, head_dim) in each layer.
        values: Same shape.
        queries: Not rotated, (batch, q_heads, rows, head_dim) in each layer.
        states: Last hidden states, (batch, rows, hidden).
    """

    keys: Layers
    values: Layers
    queries: Layers
    states: Tensor


class _State(Protocol):
    """State of one pass; it travels to every layer as the keyword argument `acre`."""

    turn_of: Callable[[Rotate], Rotate]
    landmark_rows: Tensor | None
    keys: list[Tensor]
    values: list[Tensor]
    queries: list[Tensor]

    def attend(
        self, turn: Rotate | None, query: Tensor, key: Tensor, value: Tensor, scaling: float
    ) -> Tensor: ...


@dataclass(slots=True)
class _Recorded:
    turn_of: Callable[[Rotate], Rotate]
    cos: Tensor
    sin: Tensor
    landmark_rows: Tensor | None = None
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    queries: list[Tensor] = field(default_factory=list)

    def rotated(self, turn: Rotate | None, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        return (query, key) if turn is None else turn(query, key, self.cos, self.sin)


@dataclass(slots=True, kw_only=True)
class _WindowsPass(_Recorded):
    """Batch rows are the windows of the documents, document by document."""

    windows: int
    prefix_keys: Layers
    prefix_values: Layers
    memory_cos: Tensor
    memory_sin: Tensor
    packing: WindowPacking | None

    def attend(
        self, turn: Rotate | None, query: Tensor, key: Tensor, value: Tensor, scaling: float
    ) -> Tensor:
        layer = len(self.keys) - 1
        remembered_keys = self._remembered(self.prefix_keys[layer], key)
        if turn is not None:
            # The function wants queries as well: none of them stand in for it.
            none = remembered_keys[:, :0]
            remembered_keys = turn(none, remembered_keys, self.memory_cos, self.memory_sin)[1]
        remembered_values = self._remembered(self.prefix_values[layer], value)
        query, key = self.rotated(turn, query, key)
        if self.packing is not None:
            behind = self.packing.pack(remembered_keys, key)
            told = self.packing.pack(remembered_values, value)
            return self.packing.attend(query, behind, told, scaling)
        parts = [t.unflatten(0, (-1, self.windows)).unbind(1) for t in (query, key, value)]
        attended = []
        for window, (asked, keys, values) in enumerate(zip(*parts, strict=True)):
            seen = self._seen(layer, window)
            behind = torch.cat([remembered_keys[:, :, :seen], keys], dim=2)
            told = torch.cat([remembered_values[:, :, :seen], values], dim=2)
            attended.append(_causal(asked, behind, told, scaling))
        return torch.stack(attended, dim=1).flatten(0, 1)

    def _seen(self, layer: int, window: int) -> int:
        if self.landmark_rows is None:
            raise ValueError("found no landmark rows; expected them: windows hand on landmarks")
        return self.prefix_keys[layer].shape[2] + window * len(self.landmark_rows)

    def _remembered(self, prefix: Tensor, rows: Tensor) -> Tensor:
        """Join the prefix and every document's landmarks: (documents, kv_heads, all, head_dim)."""
        if self.landmark_rows is None:
            raise ValueError("found no landmark rows; expected them: windows hand on landmarks")
        landmarks = rows.index_select(2, self.landmark_rows).unflatten(0, (-1, self.windows))
        joined = landmarks.transpose(1, 2).flatten(2, 3)
        return torch.cat([prefix.expand(len(joined), -1, -1, -1), joined], dim=2)


@dataclass(slots=True, kw_only=True)
class _RowsPass(_Recorded):
    """Rows behind a memory of their own, which `memory` gives un-rotated, layer by layer."""

    memory: Callable[[int], tuple[Tensor, Tensor]]
    memory_cos: Tensor
    memory_sin: Tensor

    def attend(
        self, turn: Rotate | None, query: Tensor, key: Tensor, value: Tensor, scaling: float
    ) -> Tensor:
        memory_keys, memory_values = self.memory(len(self.keys) - 1)
        if turn is not None:
            none = memory_keys[:, :0]
            memory_keys = turn(none, memory_keys, self.memory_cos, self.memory_sin)[1]
        query, key = self.rotated(turn, query, key)
        key = torch.cat([memory_keys, key], dim=2)
        return _causal(query, key, torch.cat([memory_values, value], dim=2), scaling)


class TrainingTwin(ReadingTwin):
    """A reading twin that also reads whole documents, and rows behind gathered memories.

    Args:
        model: Model whose weights are read with; it is left as it is.
        adapter: Landmark projections; gradients reach their tensors.
        prefix_ids: Token ids before the documents, (prefix,).
        compiled: Compile feed-forward layers and norms (worth it for long runs on a GPU).

    Raises:
        ConfigError: It is to train on a GPU, and torch is older than 2.11.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        adapter: LandmarkAdapter | None,
        prefix_ids: Tensor,
        *,
        compiled: bool = False,
    ) -> None:
        if prefix_ids.device.type == "cuda":
            check_packing()  # here, before any data is read
        super().__init__(model, adapter)
        AttentionInterface.register(TRAINING_ATTENTION, _attend)
        self.decoder.set_attn_implementation(TRAINING_ATTENTION)  # type: ignore[operator]
        self._turn_of: Callable[[Rotate], Rotate] = _as_it_is
        with torch.no_grad():
            prefix = self.read(self.embed(prefix_ids[None]))
        self.prefix_keys: Layers = prefix.keys.unbind(0)
        self.prefix_values: Layers = prefix.values.unbind(0)
        self._packings: dict[tuple[int, ...], WindowPacking] = {}
        if compiled:
            compile_parts(self.decoder)
            compiled_turns: dict[Rotate, Rotate] = {}
            self._turn_of = lambda turn: compiled_turns.setdefault(
                turn, torch.compile(turn, dynamic=True)
            )

    @property
    def prefix_tokens(self) -> int:
        """Tokens before the documents."""
        return self.prefix_keys[0].shape[2]

    def read_windows(self, ids: Tensor, interval_tokens: int) -> LayeredReading:
        """Read whole documents with landmarks, each window behind those before it.

        Args:
            ids: (documents, windows, window tokens); the last window may be padded at its end,
                as long as nobody uses what the padding gives.
            interval_tokens: Raw tokens that one landmark stands for.

        Returns:
            Batch rows are windows, document by document; rows are interleaved with landmarks.
        """
        documents, windows, tokens = ids.shape
        places = interleave(tokens, interval_tokens, ids.device)
        embeddings = interleave_embeddings(self, ids.flatten(0, 1), places)
        landmarks = len(places.landmarks)
        first = torch.arange(windows, device=ids.device) * landmarks + self.prefix_tokens
        positions = first[:, None] + torch.arange(places.rows, device=ids.device)
        positions = positions.repeat(documents, 1)
        cos, sin = self.rotary(embeddings, positions)
        memory = torch.arange(self.prefix_tokens + windows * landmarks, device=ids.device)
        memory_cos, memory_sin = self.rotary(embeddings, memory[None])
        state = _WindowsPass(
            turn_of=self._turn_of,
            cos=cos,
            sin=sin,
            landmark_rows=places.landmarks,
            windows=windows,
            prefix_keys=self.prefix_keys,
            prefix_values=self.prefix_values,
            memory_cos=memory_cos,
            memory_sin=memory_sin,
            packing=self._packing(documents, windows, places.rows, landmarks),
        )
        return self._run(embeddings, positions, state)

    def read_rows(
        self, ids: Tensor, memory_tokens: int, memory: Callable[[int], tuple[Tensor, Tensor]]
    ) -> LayeredReading:
        """Read rows behind memories of one length: ids (batch, rows).

        Args:
            ids: (batch, rows); a row sees its memory and the rows before it.
            memory_tokens: Tokens of each memory, at positions 0 and up.
            memory: Gives keys (not rotated) and values of a layer, each (batch, kv_heads,
                memory tokens, head_dim).
        """
        embeddings = self.embed(ids)
        rows = torch.arange(ids.shape[1], device=ids.device)[None] + memory_tokens
        cos, sin = self.rotary(embeddings, rows)
        behind = torch.arange(memory_tokens, device=ids.device)[None]
        memory_cos, memory_sin = self.rotary(embeddings, behind)
        state = _RowsPass(
            turn_of=self._turn_of,
            cos=cos,
            sin=sin,
            memory=memory,
            memory_cos=memory_cos,
            memory_sin=memory_sin,
        )
        return self._run(embeddings, rows.expand(len(ids), -1), state)

    def _packing(
        self, documents: int, windows: int, rows: int, landmarks: int
    ) -> WindowPacking | None:
        device = self.prefix_keys[0].device
        if device.type != "cuda":
            return None  # flash attention alone takes keys of several lengths
        sizes = (documents, windows, rows, landmarks)
        if sizes not in self._packings:
            packing = WindowPacking.of(self.prefix_tokens, *sizes)
            self._packings[sizes] = packing.to(device)
        return self._packings[sizes]

    def _run(
        self, embeddings: Tensor, positions: Tensor, state: _WindowsPass | _RowsPass
    ) -> LayeredReading:
        output = self.decoder(
            inputs_embeds=embeddings,
            position_ids=positions,
            use_cache=False,
            acre=state,
        )
        return LayeredReading(state.keys, state.values, state.queries, output.last_hidden_state)


def compile_parts(decoder: nn.Module) -> None:
    """Compile what a decoder's layers have between their attentions, in place."""
    torch._dynamo.config.recompile_limit = 64
    for layer in decoder.layers:  # type: ignore[union-attr]
        for name in ("mlp", "input_layernorm", "post_attention_layernorm"):
            part = getattr(layer, name, None)
            if part is not None:
                part.compile(dynamic=True)


def _as_it_is(turn: Rotate) -> Rotate:
    return turn


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    acre: _State | Pass,
    **settings: object,
) -> tuple[Tensor, None]:
    """Let the pass attend; takes whatever keywords a family passes, as that interface asks."""
    if isinstance(acre, Pass):
        reading = AttentionInterface()[ATTENTION_NAME]
        return reading(  # type: ignore[no-any-return]
            module, query, key, value, attention_mask, scaling=scaling, acre=acre, **settings
        )
    acre.keys.append(key)
    acre.values.append(value)
    acre.queries.append(query)
    turn = acre.turn_of(rotation_of(module)) if rotates(module) else None
    attended = acre.attend(turn, query, key, value, scaling)
    return attended.transpose(1, 2).contiguous(), None


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
