"""Everything that turns text into keys and values, for one model, adapter and settings."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from acre_rag.cache import KVBlock, StoredBlock
from acre_rag.cache.gathered import loaded_together
from acre_rag.cache.stored import PLAIN, loaded, plain_form
from acre_rag.cache.travel import host_empty
from acre_rag.config import ACREConfig
from acre_rag.errors import ConfigError
from acre_rag.model.identity import make_identity
from acre_rag.model.landmarks import LandmarkAdapter, question_groups
from acre_rag.model.local import LocalModel
from acre_rag.model.location import DEMO_MODEL
from acre_rag.model.prefill import Method, WindowCache, prefill, read_prefix
from acre_rag.model.prompt import PromptFrame, QuestionRows
from acre_rag.model.question import layers_of, question_queries, replayed_queries
from acre_rag.model.question_rows import landmark_count
from acre_rag.model.reading import ReadingTwin
from acre_rag.model.self_check import self_check
from acre_rag.text.layout import Layout


class DocumentReader:
    """Reads documents and questions with one model; holds the prefix they all share.

    Args:
        local: Model and tokenizer.
        adapter: Landmark projections; `None` reads in the training-free mode.
        config: Settings.

    Raises:
        UnsupportedModelError: Refilling this model would not be exact.
        AdapterError: The adapter is of another model.
        ConfigError: A window does not fit the model's context.
    """

    def __init__(
        self, local: LocalModel, adapter: LandmarkAdapter | None, config: ACREConfig
    ) -> None:
        self.local = local
        self.config = config
        self.twin = ReadingTwin(local.model, adapter)
        with local.answering():
            self_check(local.model, self.twin)
        self.frame = PromptFrame(local.tokenizer, config.prompt)
        limit = self.twin.shape.max_positions
        asked = config.context_tokens
        self.context_tokens = limit if asked is None else min(asked, limit)
        self.segment_tokens = self._fitting_segment()
        with local.answering():
            self.prefix = read_prefix(self.twin, self._tensor(self.frame.prefix_ids))
        self.selection = selection_weights(local, adapter)
        self.refill_score = refill_score(local, adapter)
        self.identity = make_identity(
            local.model,
            local.tokenizer,
            self.frame.prefix_ids,
            adapter,
            config,
            segment_tokens=self.segment_tokens,
            context_tokens=self.context_tokens,
        )

    @property
    def fingerprint(self) -> str:
        """Digest of all that an answer depends on beside the question and its documents."""
        weights = self.selection.tolist() if self.selection is not None else None
        told = [self.identity.space, repr(self.config), str(self.local.model.dtype), weights]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]

    @property
    def has_landmarks(self) -> bool:
        """Whether documents get landmarks, or the training-free mode pools them."""
        return self.twin.adapter is not None

    @property
    def most_landmarks(self) -> int | None:
        """Most landmarks that stay beside those of what is refilled; `None` where none stays.

        Pooled keys only choose; what they average is no token that the model has seen.
        """
        return self.config.most_landmarks if self.has_landmarks else None

    @property
    def question_landmarks(self) -> int:
        """Landmarks that a question's rows have beside its token ids."""
        return landmark_count(self.twin)

    def layout(self, tokens: int) -> Layout:
        """Lay out a document of so many tokens."""
        window = self.config.window_tokens
        exact = self.method(tokens) == "exact"
        return Layout(
            tokens=tokens,
            interval_tokens=self.config.interval_tokens,
            window_tokens=window,
            # An exactly read document sees all of itself: it is one segment.
            segment_tokens=-(-tokens // window) * window if exact else self.segment_tokens,
        )

    def method(self, tokens: int) -> Method:
        """Tell how a document of so many tokens remembers its earlier windows."""
        if self.has_landmarks:
            return "landmarks"
        fits = len(self.frame.prefix_ids) + tokens <= self.context_tokens
        return "exact" if fits else "pooled"

    def read(
        self,
        ids: NDArray[np.int64],
        layout: Layout,
        windows: Iterable[int],
        earlier: Callable[[int], KVBlock | None],
    ) -> Iterator[tuple[int, WindowCache]]:
        """Read windows of a document; see `acre_rag.model.prefill.prefill`."""
        generator = prefill(
            self.twin,
            self._tensor(ids.tolist()),
            layout=layout,
            prefix=self.prefix,
            method=self.method(layout.tokens),
            windows=windows,
            earlier=lambda window: self._computed(earlier(window)),
            stored_dtype=PLAIN[plain_form(self.config.stored_dtype)],
        )
        while True:
            # Held for one window at a time, so that questions get their turn in between.
            with self.local.lock, torch.inference_mode():
                step = next(generator, None)
            if step is None:
                return
            yield step

    def queries(
        self,
        questions: Sequence[QuestionRows],
        segments: list[KVBlock],
        layers: Sequence[int] | None = None,
    ) -> list[list[Tensor]]:
        """Run questions over landmarks; see `acre_rag.model.question.question_queries`."""
        ids = [self._tensor(rows.ids) for rows in questions]
        prefix, context_tokens = self.prefix, self.context_tokens
        with self.local.answering():
            found = replayed_queries(self.local, self.twin, ids, prefix, segments, context_tokens)
            if found is not None:
                return [[layers_of(found, layers)] * len(segments)]
            return question_queries(
                self.twin,
                ids,
                prefix=prefix,
                segments=segments,
                context_tokens=context_tokens,
                layers=layers,
            )

    def computed_together(self, blocks: Sequence[StoredBlock]) -> KVBlock:
        """Join stored blocks of one form and shape, as `computed` does, in fewer steps."""
        like = self.prefix.keys
        return loaded_together(blocks, dtype=like.dtype, device=like.device)

    def landmark_room(self, landmarks: int) -> KVBlock:
        """Make memory on the host for so many landmarks, in the model's dtype; not written yet."""
        like = self.prefix.keys
        layers, kv_heads, _, head_dim = self.prefix.shape
        shape = (layers, kv_heads, landmarks, head_dim)
        keys, values = (host_empty(shape, like.dtype, like.device) for _ in range(2))
        return KVBlock(keys, values)

    def computed(self, *blocks: StoredBlock) -> KVBlock:
        """Join stored blocks, in the model's dtype and on its device."""
        return loaded(blocks, dtype=self.prefix.keys.dtype, device=self.prefix.keys.device)

    def _computed(self, block: KVBlock | None) -> KVBlock | None:
        return None if block is None else self.computed(block)

    def _tensor(self, ids: list[int]) -> Tensor:
        return torch.tensor(ids, dtype=torch.long, device=self.local.device)

    def _fitting_segment(self) -> int:
        window, interval = self.config.window_tokens, self.config.interval_tokens
        landmarks = window // interval
        rows = len(self.frame.prefix_ids) + window + landmarks
        if rows > self.context_tokens:
            intervals = (self.context_tokens - len(self.frame.prefix_ids)) // (interval + 1)
            # So many intervals, a power of two, fit a segment of any usual size.
            fitting = interval << (intervals.bit_length() - 1) if intervals > 0 else 0
            raise ConfigError(
                f"window_tokens is {window}; with prefix and landmarks it takes {rows} tokens of a "
                f"context of {self.context_tokens}; "
                + (
                    f"expected {fitting} or so: lower window_tokens (--window-tokens) to that"
                    if fitting
                    else "expected room for one interval: use a model with a longer context"
                )
            )
        most = ((self.context_tokens - rows) // landmarks + 1) * window
        return min(self.config.segment_tokens, most)


def selection_weights(local: LocalModel, adapter: LandmarkAdapter | None) -> Tensor | None:
    """Find the head weights to score landmarks with; `None` asks for the published rule.

    An adapter brings its own. Without one, calibrated weights are used where they ship (the demo
    model), else the middle third of the layers counts alike, on the question's own tokens.

    Returns:
        (layers, q_heads, question groups), adding up to 1.
    """
    if adapter is not None:
        return adapter.selection
    calibrated = _calibration(local)
    if "selection" in calibrated:
        return calibrated["selection"].float()
    config = local.model.config
    layers, heads = config.num_hidden_layers, config.num_attention_heads
    weights = torch.zeros(layers, heads, question_groups(0))
    weights[layers // 3 : max(2 * layers // 3, layers // 3 + 1), :, 0] = 1
    return weights / weights.sum()


def refill_score(local: LocalModel, adapter: LandmarkAdapter | None) -> float | None:
    """Find the score from which `auto` refills intervals; `None` where it was not fitted."""
    if adapter is not None:
        return adapter.refill_score
    fitted = _calibration(local).get("refill_score")
    return None if fitted is None else float(fitted)


def _calibration(local: LocalModel) -> dict[str, Tensor]:
    """Load what was fitted for the training-free mode; empty where nothing was."""
    path = Path(__file__).parent / "calibration" / f"{DEMO_MODEL}.safetensors"
    return load_file(path) if local.name == DEMO_MODEL and path.exists() else {}


def none_known(_window: int) -> None:
    """Know no window that was read at another time: all are read now."""
