"""Read a document window by window into L1 and L2.

ACRE, section 3.1: a window attends to the prefix, to all landmarks of the windows before it, and
causally to itself; its own landmarks stand at the ends of their intervals.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from acre_rag.cache import KVBlock
from acre_rag.model.reading import Memory, ReadingTwin
from acre_rag.text.layout import Layout

Method = Literal["landmarks", "pooled", "exact"]
"""How earlier windows are remembered: by landmarks, by pooled intervals, or as they are."""


@dataclass(frozen=True, slots=True)
class WindowCache:
    """What one window becomes.

    Attributes:
        l1: Landmarks, or pooled intervals, (layers, kv_heads, intervals, head_dim), not rotated.
        l2: Raw tokens, (layers, kv_heads, tokens, head_dim), not rotated.
    """

    l1: KVBlock
    l2: KVBlock


@dataclass(frozen=True, slots=True)
class InterleavedRows:
    """Places of raw tokens and landmarks among the rows of a window.

    Attributes:
        tokens: Place of each raw token, (tokens,), int64.
        landmarks: Place of each landmark, right after its interval, (landmarks,), int64.
    """

    tokens: Tensor
    landmarks: Tensor

    @property
    def rows(self) -> int:
        """Number of rows in all."""
        return len(self.tokens) + len(self.landmarks)


def interleave(tokens: int, interval_tokens: int, device: torch.device) -> InterleavedRows:
    """Place a landmark after every interval of a window, the last and shorter one included."""
    raw = torch.arange(tokens, device=device)
    landmarks = -(-tokens // interval_tokens)
    ends = torch.arange(1, landmarks + 1, device=device) * interval_tokens
    ends = ends.clamp(max=tokens)
    return InterleavedRows(
        raw + raw // interval_tokens, ends + torch.arange(landmarks, device=device)
    )


def pool_intervals(block: KVBlock, interval_tokens: int) -> KVBlock:
    """Average keys and values over each interval, the last and shorter one included.

    The stand-in for landmarks in the training-free mode; keys are not rotated.
    """
    pieces = [
        block.slice(start, min(start + interval_tokens, block.tokens))
        for start in range(0, block.tokens, interval_tokens)
    ]
    keys = [piece.keys.mean(dim=2, keepdim=True) for piece in pieces]
    values = [piece.values.mean(dim=2, keepdim=True) for piece in pieces]
    return KVBlock(torch.cat(keys, dim=2), torch.cat(values, dim=2))


def read_window(
    twin: ReadingTwin, ids: Tensor, memory: Memory, interval_tokens: int, *, landmarks: bool
) -> WindowCache:
    """Read one window: ids (tokens,), behind the memory of everything before it."""
    if not landmarks:
        reading = twin.read(twin.embed(ids[None]), memory=memory)
        l2 = KVBlock(reading.keys[:, 0], reading.values[:, 0])
        return WindowCache(pool_intervals(l2, interval_tokens), l2)
    places = interleave(len(ids), interval_tokens, ids.device)
    embeddings = interleave_embeddings(twin, ids[None], places)
    reading = twin.read(embeddings, memory=memory, landmark_rows=places.landmarks)
    both = KVBlock(reading.keys[:, 0], reading.values[:, 0])
    return WindowCache(both.take(places.landmarks), both.take(places.tokens))


def interleave_embeddings(twin: ReadingTwin, ids: Tensor, places: InterleavedRows) -> Tensor:
    """Embed ids (batch, tokens) and put the landmark's embedding between: (batch, rows, hidden).

    Raises:
        ValueError: The twin has no landmark adapter.
    """
    if twin.landmark is None:
        raise ValueError("found no landmark adapter; expected one: read without landmarks instead")
    embedded = twin.embed(ids)
    landmark = twin.landmark.to(embedded.device, embedded.dtype)
    rows = landmark.expand(len(ids), places.rows, -1)
    return rows.index_copy(1, places.tokens, embedded)


def prefill(  # noqa: PLR0913  # what is read, and what it is read behind
    twin: ReadingTwin,
    ids: Tensor,
    *,
    layout: Layout,
    prefix: KVBlock,
    method: Method,
    windows: Iterable[int],
    earlier: Callable[[int], KVBlock | None],
    stored_dtype: torch.dtype,
) -> Iterator[tuple[int, WindowCache]]:
    """Read the given windows of a document in order, yielding each as soon as it is read.

    Args:
        twin: Reader of the model's weights.
        ids: Token ids of the whole document, (tokens,).
        layout: Where its intervals, windows and segments lie.
        prefix: Keys and values of the prompt before the documents, not rotated.
        method: How earlier windows are remembered.
        windows: Windows to read, rising; those left out must be known to `earlier`.
        earlier: Gives L1 (L2 if the method is `exact`) of a window that was read at another time.
        stored_dtype: Number type of the store. What is read is rounded to it at once, so that
            later windows are the same whether they follow now or in another run.
    """
    known: dict[int, KVBlock] = {}
    for window in windows:
        segment = layout.segment_of_window(window)
        before = range(layout.segment_windows(segment).start, window)
        known = {w: block for w, block in known.items() if w in before}
        for index in before:
            if index not in known:
                block = earlier(index)
                if block is not None:
                    known[index] = block
        memory = KVBlock.concatenate([prefix, *(known[index] for index in before)])
        span = layout.window_tokens_of(window)
        read = read_window(
            twin,
            ids[span.start : span.stop],
            twin.remember(memory.keys[:, None], memory.values[:, None]),
            layout.interval_tokens,
            landmarks=method == "landmarks",
        )
        read = WindowCache(_rounded(read.l1, stored_dtype), _rounded(read.l2, stored_dtype))
        known[window] = read.l2 if method == "exact" else read.l1
        yield window, read


def _rounded(block: KVBlock, dtype: torch.dtype) -> KVBlock:
    """Round to a number type; dtype and device stay."""
    device = block.keys.device
    return block.to(dtype=dtype, device=device).to(dtype=block.keys.dtype, device=device)


def read_prefix(twin: ReadingTwin, ids: Tensor) -> KVBlock:
    """Read the prompt before the documents: ids (tokens,) to keys and values, not rotated."""
    reading = twin.read(twin.embed(ids[None]))
    return KVBlock(reading.keys[:, 0], reading.values[:, 0])
