"""Passes of questions and answers on a GPU: captured once, and replayed from then on.

A pass of few rows keeps a GPU waiting for the host, which launches its kernels one by one. Stock
`generate` goes on as ever; the model that it is called on is a copy of the module object alone,
whose passes are replayed. What does not fit goes through the model's own forward pass.
"""

import copy
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from acre_rag.cache import KVBlock, RoomyBlock
from acre_rag.model.capture import Captures
from acre_rag.model.growing_cache import advance, rooms_of
from acre_rag.model.standing import MOST_TOKENS, Standing
from acre_rag.model.step import Step, StepTwin
from acre_rag.model.support import layer_devices

LEAST_TOKENS = 8
"""Answers from this length on are worth a capture of their own, which takes as long as some."""

Captured = tuple[Step, Callable[[], None]]
_LOG = logging.getLogger("acre_rag")
_TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 6e-2, torch.float16: 2e-2}


@dataclass(slots=True)
class Replays:
    """Captures passes of one model; by whoever holds the model, memory is lent to any thread.

    Attributes:
        devices: Kinds of devices where passes are put together so; only a GPU captures them. None
            by default, until bfloat16 and real shapes are measured (decision 9); `{"cuda"}` does.
        captured: Number of passes that were captured.
    """

    devices: frozenset[str] = frozenset()
    captured: int = 0
    _twin: StepTwin | None = None
    _standing: Standing | None = None
    _trusted: dict[str, bool] = field(default_factory=dict)
    _lending: threading.Lock = field(default_factory=threading.Lock)
    _captures: Captures | None = None

    def let_go(self) -> None:
        """Give the memory that stands back, and what was captured over it.

        The pool of captures stays for the next ones: torch keeps what a pool had from all others
        even when it is gone, until memory is short.
        """
        with self._lending:
            self._standing = None

    def afresh(self) -> "Replays":
        """Make one that holds no memory, and has compared what this one has."""
        return Replays(self.devices, _trusted=dict(self._trusted))

    def may_replay(self, device: torch.device) -> bool:
        """Tell whether passes on a device are replayed."""
        return device.type in self.devices and not self._given_up

    @property
    def _given_up(self) -> bool:
        return not all(self._trusted.values())

    def room(self, like: KVBlock, tokens: int, more: int = 0) -> RoomyBlock:
        """Give memory for so many tokens: the one that stands, if it is free, or new one.

        Args:
            like: Gives the shape.
            tokens: Tokens that it is for.
            more: Tokens that will be asked for beyond those, next time.
        """
        with self._lending:
            standing = self._standing
            free = standing is None or standing.free
            if not free or tokens > MOST_TOKENS or not self.may_replay(like.keys.device):
                return RoomyBlock.like(like, tokens)
            if standing is None or not standing.suits(like, tokens):
                self._standing = standing = None  # the old one is let go of first
                with torch.inference_mode(mode=False):
                    self._standing = standing = Standing.like(like, tokens + more)
            return standing.lend(tokens)

    def queries(
        self, model: PreTrainedModel, ids: Tensor, memory: RoomyBlock, theirs: Callable[[], Tensor]
    ) -> Tensor | None:
        """Run a question behind a memory, rotated, and give its queries.

        Args:
            model: Whose passes are captured.
            ids: (rows,).
            memory: As `room` gives it.
            theirs: Gives what is to be expected, for the one comparison.

        Returns:
            Not rotated, (layers, q_heads, rows, head_dim); `None` where that is for the model's
            own pass.
        """
        if self._given_up:
            return None
        try:
            step = self._standing_step(model, ids[None], memory.tokens, memory.lease)
            if step is None:
                return None
            step[0].ask(ids[None], memory.tokens, memory.tokens)
            step[1]()
        except RuntimeError as error:
            self._give_up("question", str(error).partition("\n")[0])
            return None
        found = torch.stack([own[0, :, : len(ids)] for own in step[0].queries])
        return found if self.check("question", found, theirs) else None

    def answering(
        self, model: PreTrainedModel, cache: DynamicCache | None, max_new_tokens: int
    ) -> PreTrainedModel:
        """Give a model for one answer: itself, or one whose passes are replayed."""
        places = set(layer_devices(model))
        one = len(places) == 1 and self.may_replay(places.pop())
        standing = self._standing  # another thread may put another in its place
        lent = standing is not None and standing.lent_to(_lease_of(cache))
        if cache is None or not one or not (lent or max_new_tokens >= LEAST_TOKENS):
            return model
        answer = _Answer(self, model, alone=max_new_tokens >= LEAST_TOKENS)
        own = copy.copy(model)

        @wraps(model.forward)
        def forward(*args: Any, **inputs: Any) -> Any:  # noqa: ANN401  # whatever a model takes
            output = answer.step(**inputs) if not args else None
            return model.forward(*args, **inputs) if output is None else output

        own.forward = forward  # of this object alone
        return own

    def step_of(self, model: PreTrainedModel, cache: DynamicCache, ids: Tensor) -> Captured | None:
        """Find the pass over a cache in the memory that stands; `None` where it is elsewhere."""
        rooms, standing = rooms_of(cache), self._standing
        # A cache that outgrew the memory has taken its tokens elsewhere.
        if rooms is None or standing is None or not standing.holds(rooms[0][0]):
            return None
        return self._standing_step(model, ids, cache.get_seq_length(), _lease_of(cache))

    def _standing_step(
        self, model: PreTrainedModel, ids: Tensor, tokens: int, lease: object | None
    ) -> Captured | None:
        standing = self._standing
        if standing is None or not standing.lent_to(lease) or len(ids) > 1:
            return None
        rows = standing.rows_for(ids, tokens)
        if rows is None:
            return None
        if rows not in standing.steps:
            step = Step(self._twin_of(model), standing.rooms, rows)
            standing.steps[rows] = step, self._runner(step, tokens)
        return standing.steps[rows]

    def capture(
        self, model: PreTrainedModel, cache: DynamicCache, tokens: int, mask: Tensor | None
    ) -> Captured | None:
        """Capture a pass of one row over a cache with memory of its own, if it has room."""
        rooms = rooms_of(cache)
        if rooms is None:
            return None
        keys = rooms[0][0]
        padding = None
        if mask is not None:
            padding = torch.zeros(len(keys), keys.shape[2], dtype=torch.bool, device=keys.device)
            padding[:, :tokens] = ~mask.bool()[:, :tokens]
        for part in (part for room in rooms for part in room):
            part[:, :, tokens:] = 0
        step = Step(self._twin_of(model), rooms, 1, padding)
        return step, self._runner(step, tokens)

    def check(self, kind: str, ours: Tensor, theirs: Callable[[], Tensor]) -> bool:
        """Compare the first pass of a kind with the model's own; tell whether to trust it."""
        if kind not in self._trusted:
            expected = theirs().float()
            difference = float((ours.float() - expected).abs().max() / expected.abs().max())
            tolerance = _TOLERANCES.get(ours.dtype, max(_TOLERANCES.values()))
            self._trusted[kind] = difference <= tolerance  # a NaN is not
            if not self._trusted[kind]:
                self._give_up(kind, f"it differs from the model's own pass by {difference:.1e}")
        return self._trusted[kind]

    def _give_up(self, kind: str, reason: str) -> None:
        """Replay nothing from now on."""
        self._trusted[kind] = False
        with self._lending:
            self._standing = self._captures = None
        _LOG.warning("no pass is replayed from now on (%s: %s); the model's own are", kind, reason)

    def _twin_of(self, model: PreTrainedModel) -> StepTwin:
        self._twin = self._twin or StepTwin(model)
        return self._twin

    def _runner(self, step: Step, tokens: int) -> Callable[[], None]:
        self.captured += 1
        if step.ids.device.type != "cuda":
            return step.run
        step.place.fill_(tokens)  # a place that is free: the first runs write there
        captures = self._captures = self._captures or Captures(step.ids.device)
        return captures.capture(step.run)


class _Answer:
    """The passes of one answer."""

    def __init__(self, replays: Replays, model: PreTrainedModel, *, alone: bool) -> None:
        self._replays = replays
        self._model = model
        self._alone = alone
        self._own: Captured | None = None

    def step(
        self,
        input_ids: Tensor | None = None,
        past_key_values: DynamicCache | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        **others: Any,  # noqa: ANN401  # whatever a model takes
    ) -> CausalLMOutputWithPast | None:
        """Answer some rows; `None` where that is for the model's own pass."""
        cache = past_key_values
        if input_ids is None or cache is None or self._replays._given_up:
            return None
        kind = "token" if input_ids.shape[1] == 1 else "prompt"
        tokens = cache.get_seq_length()
        try:
            captured = self._captured(cache, input_ids, tokens, attention_mask)
            if captured is None:
                return None
            step, run = captured
            step.ask(input_ids, tokens, _first_position(tokens, attention_mask, position_ids))
            run()
        except RuntimeError as error:
            self._own = None
            self._replays._give_up(kind, str(error).partition("\n")[0])
            return None
        logits = step.logits.clone()
        own: list[CausalLMOutputWithPast] = []

        def stock() -> Tensor:
            inputs = {"attention_mask": attention_mask, "position_ids": position_ids, **others}
            output = self._model.forward(input_ids, past_key_values=cache, **inputs)
            own.append(output)
            theirs: Tensor = output.logits[:, -1:]
            return theirs

        self._replays.check(kind, logits, stock)
        if own:
            return own[0]
        advance(cache, input_ids.shape[1])
        return CausalLMOutputWithPast(logits=logits, past_key_values=cache)

    def _captured(
        self, cache: DynamicCache, ids: Tensor, tokens: int, mask: Tensor | None
    ) -> Captured | None:
        rooms = rooms_of(cache)
        if rooms is None:
            return None
        if (standing := self._replays.step_of(self._model, cache, ids)) is not None:
            return standing
        if ids.shape[1] > 1 or not self._alone:
            return None
        if self._own is None or self._own[0].rooms[0][0] is not rooms[0][0]:
            self._own = self._replays.capture(self._model, cache, tokens, mask)
        return self._own


def _lease_of(cache: object) -> object | None:
    lease: object | None = getattr(cache, "lease", None)
    return lease


def _first_position(tokens: int, mask: Tensor | None, positions: Tensor | None) -> Tensor | int:
    """Find the position of the first row: given, or behind all that is seen."""
    if positions is not None:
        return positions[:, :1]
    return tokens if mask is None else mask[:, :tokens].sum(dim=1, keepdim=True)
