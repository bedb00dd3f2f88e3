"""A twin of the model that reads: it sees keys before rotation, with memory put in front.

The twin shares every weight with the model and owns its modules, so that the model itself is never
touched: whatever the twin does, the model answers as if it did not exist.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from acre_rag.errors import UnsupportedModelError
from acre_rag.model.landmarks import LandmarkAdapter, install_landmarks, near
from acre_rag.model.support import attention_modules, check_supported, rotates, rotation_of
from acre_rag.model.unrotated import leave_unrotated

ATTENTION_NAME = "acre_reading"
_LAYERS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Memory:
    """Tokens that rows attend to besides each other, at positions 0 to tokens - 1.

    Attributes:
        keys: Rotated, (layers, batch, kv_heads, tokens, head_dim).
        values: Same shape.
        hidden: Which of them a row of the batch must not see, (batch, tokens), bool; `None`
            where all are seen. Hidden ones stand first, so that positions are counted behind them.
    """

    keys: Tensor
    values: Tensor
    hidden: Tensor | None = None

    @property
    def tokens(self) -> int:
        """Number of tokens, hidden ones included."""
        return self.keys.shape[3]


@dataclass(frozen=True, slots=True)
class Reading:
    """What one forward pass of the twin saw.

    Attributes:
        keys: Not rotated, (layers, batch, kv_heads, rows, head_dim).
        values: Same shape.
        queries: Not rotated, (layers, batch, q_heads, rows, head_dim); `None` unless asked for.
        states: Last hidden states, (batch, rows, hidden).
    """

    keys: Tensor
    values: Tensor
    queries: Tensor | None
    states: Tensor


@dataclass(slots=True)
class Pass:
    """State of one forward pass; it travels to every layer as a keyword argument."""

    memory: Memory | None
    landmark_rows: Tensor | None
    cos: Tensor
    sin: Tensor
    mask: Tensor | None
    keep_queries: bool
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    queries: list[Tensor] = field(default_factory=list)


class ReadingTwin:
    """Reads rows of embeddings with a model's weights; safe to differentiate through.

    Args:
        model: Model whose weights are read with; it is left as it is.
        adapter: Landmark projections; `None` where no landmarks will be read.
        attention: Name of a registered attention function that takes a pass as `acre`.

    Raises:
        UnsupportedModelError: The model has parts that would not be refilled exactly.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        adapter: LandmarkAdapter | None,
        attention: str = ATTENTION_NAME,
    ) -> None:
        self.shape = check_supported(model)
        shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        twin = copy.deepcopy(model, shared)
        AttentionInterface.register(ATTENTION_NAME, _attend)
        twin.set_attn_implementation(attention)
        self.rotary: nn.Module = twin.model.rotary_emb
        self._attention = attention_modules(twin)
        done = [leave_unrotated(module) for module in self._attention]
        twin.model.rotary_emb = _NoAngles() if all(done) else _NoRotation(self.rotary)
        self.model: nn.Module = twin
        self.decoder: nn.Module = twin.model
        self._embed = model.get_input_embeddings()
        self.adapter = adapter
        self.landmark: Tensor | None = None
        self.question_landmarks: Tensor | None = None
        if adapter is not None:
            adapter.check(self.shape)
            install_landmarks(self._attention, adapter)
            embeddings: Tensor = self._embed.weight  # type: ignore[assignment]
            self.landmark = near(adapter.embedding, embeddings)
            if adapter.question_embeddings is not None:
                self.question_landmarks = near(adapter.question_embeddings, embeddings)

    def first_layers(self, layers: int) -> "ReadingTwin":
        """Make a twin that reads with the first layers alone, where nothing later is of use.

        It shares all modules with this one. The states that it ends with mean nothing.
        """
        short = copy.copy(self)
        shared = {id(child): child for child in self.decoder.children()}
        kept = self.decoder.layers[:layers]  # type: ignore[index]  # a list of modules
        config = self.decoder.config
        short.decoder = copy.deepcopy(
            self.decoder, {**shared, id(self.decoder.layers): kept, id(config): config}
        )
        short._attention = self._attention[:layers]
        return short

    def embed(self, ids: Tensor) -> Tensor:
        """Look up embeddings: ids (batch, rows) to (batch, rows, hidden)."""
        embedded: Tensor = self._embed(ids)
        return embedded

    def read(
        self,
        embeddings: Tensor,
        *,
        memory: Memory | None = None,
        landmark_rows: Tensor | None = None,
        keep_queries: bool = False,
    ) -> Reading:
        """Run rows through the model: each sees the memory, itself, and the rows before it.

        Args:
            embeddings: (batch, rows, hidden).
            memory: Tokens in front of the rows.
            landmark_rows: Places of the landmarks, int64: among the rows, (landmarks,), or, where
                they differ, counted through all rows of the batch, (batch, landmarks).
            keep_queries: Keep the rows' queries as well.
        """
        batch, rows, _ = embeddings.shape
        positions = _row_positions(rows, memory, embeddings.device)
        cos, sin = self.rotary(embeddings, positions)
        mask = _mask(batch, rows, memory, embeddings.device)
        state = Pass(memory, landmark_rows, cos, sin, mask, keep_queries)
        output = self.decoder(
            inputs_embeds=embeddings, position_ids=positions, use_cache=False, acre=state
        )
        return Reading(
            keys=torch.stack(state.keys),
            values=torch.stack(state.values),
            queries=torch.stack(state.queries) if keep_queries else None,
            states=output.last_hidden_state,
        )

    def rotate(self, keys: Tensor, positions: Tensor) -> Tensor:
        """Rotate keys to positions, with the family's own rotary embedding.

        Args:
            keys: Not rotated, (layers, batch, kv_heads, tokens, head_dim).
            positions: (tokens,), int64.

        Returns:
            Rotated keys, same shape; layers that do not rotate are passed through.
        """
        return torch.stack(list(self._rotated(keys, positions)))

    def rotate_in_place(self, keys: Tensor, positions: Tensor) -> None:
        """Rotate keys where they are; as `rotate` does."""
        for layer, turned in zip(keys, self._rotated(keys, positions), strict=True):
            layer.copy_(turned)

    def _rotated(self, keys: Tensor, positions: Tensor) -> Iterator[Tensor]:
        """Rotate layer by layer: each as it is, or anew."""
        cos, sin = self.rotary(keys, positions[None])
        # Few layers at once: many small steps would keep a GPU waiting, all at once take memory.
        for first in range(0, len(keys), _LAYERS_AT_ONCE):
            block, modules = keys[first:][:_LAYERS_AT_ONCE], self._attention[first:]
            together = block.flatten(0, 1)
            # The function wants queries as well: none of them stand in for it.
            changed = rotation_of(modules[0])(together[:, :0], together, cos, sin)[1]
            layers = zip(modules, block, changed.view_as(block), strict=False)
            yield from (new if rotates(module) else old for module, old, new in layers)

    def remember(self, keys: Tensor, values: Tensor) -> Memory:
        """Make memory of un-rotated keys, at positions 0 and up; shapes as in `Memory`."""
        positions = torch.arange(keys.shape[3], device=keys.device)
        return Memory(self.rotate(keys, positions), values)


class _NoAngles(nn.Module):
    """Stands in for a rotary embedding where no layer rotates."""

    def forward(self, _states: Tensor, position_ids: Tensor) -> tuple[None, None]:  # noqa: ARG002
        return None, None


class _NoRotation(nn.Module):
    """Stands in for a rotary embedding and rotates by nothing."""

    def __init__(self, rotary: nn.Module) -> None:
        super().__init__()
        self.rotary = rotary

    def forward(self, states: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        cos, sin = self.rotary(states, position_ids)
        return torch.ones_like(cos), torch.zeros_like(sin)


def _row_positions(rows: int, memory: Memory | None, device: torch.device) -> Tensor:
    """Count on behind the memory: (1 or batch, rows)."""
    positions = torch.arange(rows, device=device)[None]
    if memory is None:
        return positions
    if memory.hidden is None:
        return positions + memory.tokens
    seen = (~memory.hidden).sum(dim=1, keepdim=True)
    return positions + seen.to(device)


def _mask(batch: int, rows: int, memory: Memory | None, device: torch.device) -> Tensor | None:
    if memory is None:
        return None
    if memory.hidden is None and device.type == "cuda":
        # Fused kernels know this shape; a written-out mask would rule them out.
        return causal_lower_right(rows, memory.tokens + rows)
    if memory.hidden is None and memory.tokens <= rows:
        return None  # see `_causal`
    causal = torch.ones(rows, rows, dtype=torch.bool, device=device).tril()
    if memory.hidden is None:
        seen = torch.ones(rows, memory.tokens, dtype=torch.bool, device=device)
        return torch.cat([seen, causal], dim=1)
    seen = (~memory.hidden).to(device)[:, None, None].expand(batch, 1, rows, memory.tokens)
    return torch.cat([seen, causal.expand(batch, 1, rows, rows)], dim=3)


def _attend(  # noqa: PLR0913  # the framework calls it so
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    dropout: float = 0.0,
    acre: Pass,
    softcap: float | None = None,
    sliding_window: int | None = None,
    **_unused: object,
) -> tuple[Tensor, None]:
    """Record un-rotated keys and values, then attend to memory and rows, rotated.

    Takes whatever keywords a family passes to its attention function, as that interface asks.
    """
    if softcap is not None or sliding_window is not None or attention_mask is not None:
        raise UnsupportedModelError(
            f"{type(module).__name__} attends with softcap={softcap}, "
            f"sliding_window={sliding_window}; expected plain full attention: use another model"
        )
    layer = len(acre.keys)
    home = acre.cos.device  # layers may be spread over several devices
    acre.keys.append(key.to(home))
    acre.values.append(value.to(home))
    if acre.keep_queries:
        acre.queries.append(query.to(home))
    if rotates(module):
        cos, sin = acre.cos.to(key.device), acre.sin.to(key.device)
        query, key = rotation_of(module)(query, key, cos, sin)
    if acre.memory is not None:
        memory_keys = acre.memory.keys[layer].to(key.device).expand(len(key), -1, -1, -1)
        memory_values = acre.memory.values[layer].to(key.device).expand(len(key), -1, -1, -1)
        key = torch.cat([memory_keys, key], dim=2)
        value = torch.cat([memory_values, value], dim=2)
    if acre.mask is None:
        attended = _causal(query, key, value, dropout, scaling)
    else:
        attended = scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=_near(acre.mask, key.device),
            dropout_p=dropout,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
    return attended.transpose(1, 2).contiguous(), None


def _near(mask: Tensor, device: torch.device) -> Tensor:
    """Bring a written-out mask to a layer's device; a causal shape has none."""
    return mask.to(device) if type(mask) is Tensor else mask


def _causal(query: Tensor, key: Tensor, value: Tensor, dropout: float, scaling: float) -> Tensor:
    """Attend causally, the last row to all keys; shapes as in `scaled_dot_product_attention`.

    Rows in front stand in for the memory's, so that the plain causal kernel fits: it skips what
    a mask would make it compute, 1.6 times as fast for a window behind a few landmarks.
    """
    memory = key.shape[2] - query.shape[2]
    padded = torch.nn.functional.pad(query, (0, 0, memory, 0)) if memory else query
    attended = scaled_dot_product_attention(
        padded,
        key,
        value,
        dropout_p=dropout,
        is_causal=True,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return attended[:, :, memory:]
