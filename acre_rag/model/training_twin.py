"""A reading twin for training: all windows of many documents in one pass, memory layer by layer.

Window by window, a landmark's keys feed the next window layer by layer, so one pass over all
windows gives the same numbers: each layer hands its landmarks on before the next layer starts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from acre_rag.model.landmarks import LandmarkAdapter
from acre_rag.model.packing import WindowPacking, check_packing
from acre_rag.model.prefill import InterleavedRows, interleave, interleave_embeddings
from acre_rag.model.question_rows import put_question_landmarks
from acre_rag.model.reading import ATTENTION_NAME, Pass, ReadingTwin
from acre_rag.model.support import Rotate, rotates, rotation_of
from acre_rag.model.training_passes import (
    Layers,
    PackedPass,
    PlainPass,
    RowsPass,
    TrainingPass,
    WindowsPass,
)

TRAINING_ATTENTION = "acre_training"


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
        seen: dict[str, Any] = {
            "turn_of": self._turn_of,
            "cos": cos,
            "sin": sin,
            "landmark_rows": places.landmarks,
            "prefix_keys": self.prefix_keys,
            "prefix_values": self.prefix_values,
        }
        if ids.device.type == "cuda":  # flash attention alone takes keys of several lengths
            packing = self._packing(documents, windows, places)
            behind = self.rotary(embeddings, packing.positions[None])
            packed = PackedPass(**seen, memory_cos=behind[0], memory_sin=behind[1], packing=packing)
            return self._run(embeddings, positions, packed)
        memory = torch.arange(self.prefix_tokens + windows * landmarks)
        behind = self.rotary(embeddings, memory[None])
        state = WindowsPass(**seen, memory_cos=behind[0], memory_sin=behind[1], windows=windows)
        return self._run(embeddings, positions, state)

    def read_plain(self, ids: Tensor) -> Tensor:
        """Read rows as the model does, of full attention: ids (batch, rows), with their prefix.

        Returns:
            Last hidden states, (batch, rows, hidden).
        """
        embeddings = self.embed(ids)
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        cos, sin = self.rotary(embeddings, positions)
        state = PlainPass(turn_of=self._turn_of, cos=cos, sin=sin)
        return self._states(embeddings, positions.expand(len(ids), -1), state)

    def read_rows(
        self,
        ids: Tensor,
        memory_tokens: int,
        memory: Callable[[int], tuple[Tensor, Tensor]],
        landmark_rows: Tensor | None = None,
    ) -> LayeredReading:
        """Read rows behind memories of one length: ids (batch, rows).

        Args:
            ids: (batch, rows); a row sees its memory and the rows before it.
            memory_tokens: Tokens of each memory, at positions 0 and up.
            memory: Gives keys (not rotated) and values of a layer, each (batch, kv_heads,
                memory tokens, head_dim).
            landmark_rows: Places of the question's landmarks, counted through all rows, (batch,
                landmarks); what `ids` has there does not matter.
        """
        embeddings = self.embed(ids)
        if landmark_rows is not None:
            embeddings = put_question_landmarks(self, embeddings, landmark_rows)
        rows = torch.arange(ids.shape[1], device=ids.device)[None] + memory_tokens
        cos, sin = self.rotary(embeddings, rows)
        behind = torch.arange(memory_tokens, device=ids.device)[None]
        memory_cos, memory_sin = self.rotary(embeddings, behind)
        state = RowsPass(
            turn_of=self._turn_of,
            cos=cos,
            sin=sin,
            memory=memory,
            memory_cos=memory_cos,
            memory_sin=memory_sin,
            landmark_rows=landmark_rows,
        )
        return self._run(embeddings, rows.expand(len(ids), -1), state)

    def _packing(self, documents: int, windows: int, places: InterleavedRows) -> WindowPacking:
        sizes = (documents, windows, places.rows, len(places.landmarks))
        if sizes not in self._packings:
            packing = WindowPacking.of(
                self.prefix_tokens, documents, windows, places.rows, places.landmarks
            )
            self._packings[sizes] = packing.to(places.landmarks.device)
        return self._packings[sizes]

    def _run(
        self, embeddings: Tensor, positions: Tensor, state: WindowsPass | PackedPass | RowsPass
    ) -> LayeredReading:
        states = self._states(embeddings, positions, state)
        return LayeredReading(state.keys, state.values, state.queries, states)

    def _states(self, embeddings: Tensor, positions: Tensor, state: TrainingPass) -> Tensor:
        output = self.decoder(
            inputs_embeds=embeddings, position_ids=positions, use_cache=False, acre=state
        )
        states: Tensor = output.last_hidden_state
        return states


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
    acre: TrainingPass | Pass,
    **settings: object,
) -> tuple[Tensor, None]:
    """Let the pass attend; takes whatever keywords a family passes, as that interface asks."""
    if isinstance(acre, Pass):
        reading = AttentionInterface()[ATTENTION_NAME]
        return reading(  # type: ignore[no-any-return]
            module, query, key, value, attention_mask, scaling=scaling, acre=acre, **settings
        )
    turn = acre.turn_of(rotation_of(module)) if rotates(module) else None
    attended = acre.attend(turn, query, key, value, scaling)
    return attended.transpose(1, 2).contiguous(), None
