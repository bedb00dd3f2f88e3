"""Tokens after the first on a GPU: one pass is captured, and replayed for each of them.

Stock `generate` goes on as ever; the model that it is called on is a copy of the module object
alone, whose single steps are replayed. Everything else, and every step that does not fit, goes
through the model's own forward pass.
"""

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from acre_rag.model.growing_cache import advance, rooms_of
from acre_rag.model.step import Room, Step, StepTwin
from acre_rag.model.support import layer_devices

LEAST_TOKENS = 8
"""Answers from this length on are worth a capture, which takes as long as some steps."""

_LOG = logging.getLogger("acre_rag")
_TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 6e-2, torch.float16: 2e-2}


@dataclass(slots=True)
class Replays:
    """Captures steps of one model's answers; used by one thread at a time.

    Attributes:
        devices: Kinds of devices where steps are put together so; only a GPU captures them.
    """

    devices: frozenset[str] = frozenset({"cuda"})
    _twin: StepTwin | None = None
    _trusted: bool | None = None
    _stream: Any = None
    _pool: Any = None
    _captured: int = field(default=0)

    @property
    def captured(self) -> int:
        """Number of steps that were captured."""
        return self._captured

    def answering(self, model: PreTrainedModel, max_new_tokens: int) -> PreTrainedModel:
        """Give a model for one answer: itself, or one whose further tokens are replayed."""
        places = set(layer_devices(model))
        one = len(places) == 1 and places.pop().type in self.devices
        if not one or max_new_tokens < LEAST_TOKENS or self._trusted is False:
            return model
        answer = _Answer(self, model)
        own = copy.copy(model)

        @wraps(model.forward)
        def forward(*args: Any, **inputs: Any) -> Any:  # noqa: ANN401  # whatever a model takes
            output = answer.step(**inputs) if not args else None
            return model.forward(*args, **inputs) if output is None else output

        own.forward = forward  # of this object alone
        return own

    def capture(
        self, model: PreTrainedModel, rooms: list[Room], tokens: int, seen: Tensor | None
    ) -> "tuple[Step, Callable[[], None]]":
        """Make a step over a cache, and what runs it."""
        self._twin = self._twin or StepTwin(model)
        step = Step(self._twin, rooms, tokens, seen)
        self._captured += 1
        if rooms[0][0].device.type != "cuda":
            return step, step.run
        return step, self._graph(step, tokens)

    def _graph(self, step: Step, tokens: int) -> Callable[[], None]:
        device = step.ids.device
        step.place.fill_(tokens)
        if self._stream is None:
            self._stream = torch.cuda.Stream(device)
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        current = torch.cuda.current_stream(device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            step.run()  # what is made on first use must not be captured
            # Other threads may wait for the device meanwhile, as one that writes a cache does.
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                step.run()
            finally:
                graph.capture_end()
        current.wait_stream(self._stream)
        return graph.replay

    def check(self, ours: Tensor, theirs: Callable[[], Tensor]) -> bool:
        """Compare one step with the model's own, once; tell whether it may be trusted."""
        if self._trusted is None:
            expected = theirs().float()
            difference = float((ours.float() - expected).abs().max() / expected.abs().max())
            tolerance = _TOLERANCES.get(ours.dtype, max(_TOLERANCES.values()))
            self._trusted = difference <= tolerance  # a NaN is not
            if not self._trusted:
                self.give_up(f"it differs from the model's own step by {difference:.1e}")
        return self._trusted

    def give_up(self, reason: str) -> None:
        """Answer without replaying from now on."""
        self._trusted = False
        _LOG.warning("answers are not replayed (%s): each token takes the model's own pass", reason)


class _Answer:
    """The steps of one answer."""

    def __init__(self, replays: Replays, model: PreTrainedModel) -> None:
        self._replays = replays
        self._model = model
        self._step: Step | None = None
        self._run: Callable[[], None] = lambda: None

    def step(
        self,
        input_ids: Tensor | None = None,
        past_key_values: DynamicCache | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        **others: Any,  # noqa: ANN401  # whatever a model takes
    ) -> CausalLMOutputWithPast | None:
        """Answer one token; `None` where that is for the model's own pass."""
        if input_ids is None or input_ids.shape[1] != 1 or past_key_values is None:
            return None
        rooms = rooms_of(past_key_values)
        if rooms is None or self._replays._trusted is False:
            return None
        tokens = past_key_values.get_seq_length()
        try:
            if self._step is None or self._step.rooms[0][0] is not rooms[0][0]:
                seen = None if attention_mask is None else attention_mask.bool()
                self._step, self._run = self._replays.capture(self._model, rooms, tokens, seen)
            self._put(self._step, input_ids, tokens, attention_mask, position_ids)
            self._run()
        except RuntimeError as error:
            self._step = None
            self._replays.give_up(str(error).partition("\n")[0])
            return None
        logits = self._step.logits.clone()
        inputs = {"attention_mask": attention_mask, "position_ids": position_ids, **others}
        own: list[Any] = []

        def stock() -> Tensor:
            own.append(self._model.forward(input_ids, past_key_values=past_key_values, **inputs))
            theirs: Tensor = own[0].logits
            return theirs

        if not self._replays.check(logits, stock) or own:
            return own[0] if own else None
        advance(past_key_values)
        return CausalLMOutputWithPast(logits=logits, past_key_values=past_key_values)

    @staticmethod
    def _put(
        step: Step, ids: Tensor, tokens: int, mask: Tensor | None, positions: Tensor | None
    ) -> None:
        step.ids.copy_(ids)
        step.place.fill_(tokens)
        if positions is not None:
            step.positions.copy_(positions[:, -1:])
        elif mask is not None:
            step.positions.copy_(mask.sum(dim=1, keepdim=True) - 1)
        else:
            step.positions.fill_(tokens)
