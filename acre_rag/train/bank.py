"""All keys and values of a batch's contexts in one place, from which memories are gathered.

A bank row is a token or a landmark; a memory is a list of rows. What `acre_rag.refill.splice` does
for one question, `refilled_rows` does for a batch, as row numbers.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from acre_rag.model.training_passes import Layers
from acre_rag.model.training_twin import LayeredReading, TrainingTwin


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the rows of a context lie in the bank, counted from the context's first row.

    Attributes:
        prefix: Rows of the prefix, (prefix,).
        first_tokens: Row of each interval's first token, rising, (intervals,).
        interval_tokens: Tokens of every interval; its landmark is the row behind them.
        rows: Rows of one context.
    """

    prefix: Tensor
    first_tokens: Tensor
    interval_tokens: int
    rows: int

    @property
    def intervals(self) -> int:
        """Intervals of a context."""
        return len(self.first_tokens)

    @property
    def landmarks(self) -> Tensor:
        """Row of each landmark, (intervals,)."""
        return self.first_tokens + self.interval_tokens


@dataclass(frozen=True, slots=True)
class Bank:
    """Keys (not rotated) and values of all contexts, layer by layer.

    Attributes:
        layers: (contexts * rows, kv_heads, 2 * head_dim): keys, then values.
        places: Where things lie in a context.
    """

    layers: Layers
    places: Places

    def gather(self, layer: int, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Gather memories: rows (batch, memory) to keys and values.

        Returns:
            Each (batch, kv_heads, memory, head_dim).
        """
        bank = self.layers[layer]
        # An embedding's gradient adds up in float32 where many memories share a row.
        found = torch.nn.functional.embedding(rows, bank.flatten(1)).unflatten(2, bank.shape[1:])
        keys, values = found.transpose(1, 2).chunk(2, dim=3)
        return keys, values

    def rows_of(self, owner: Tensor, places: Tensor) -> Tensor:
        """Number rows through the bank: owner (batch,), places (memory,) or (batch, memory)."""
        return owner[:, None] * self.places.rows + places


def window_bank(
    twin: TrainingTwin, reading: LayeredReading, shape: tuple[int, int, int, int], tokens: int,
    interval_tokens: int,
) -> Bank:  # fmt: skip
    """Make a bank of what `read_windows` read.

    Args:
        twin: The reader; its prefix stands in front of each context.
        reading: Batch rows are the windows of all contexts' documents.
        shape: Contexts, documents, windows, window tokens.
        tokens: Tokens of a document, padding left out; a multiple of the interval.
        interval_tokens: Raw tokens that one landmark stands for.

    Raises:
        ValueError: `tokens` is not a multiple of `interval_tokens`.
    """
    contexts, documents, windows, window_tokens = shape
    if tokens % interval_tokens or window_tokens % interval_tokens:
        raise ValueError(
            f"documents have {tokens} tokens in windows of {window_tokens}; expected multiples of "
            f"the interval ({interval_tokens}): compose other lengths"
        )
    device = reading.states.device
    per_document = reading.keys[0].shape[2] * windows
    intervals = torch.arange(tokens // interval_tokens, device=device) * (interval_tokens + 1)
    starts = torch.arange(documents, device=device)[:, None] * per_document + intervals
    places = Places(
        prefix=torch.arange(twin.prefix_tokens, device=device),
        first_tokens=starts.flatten() + twin.prefix_tokens,
        interval_tokens=interval_tokens,
        rows=twin.prefix_tokens + documents * per_document,
    )
    layers = []
    for layer, (keys, values) in enumerate(zip(reading.keys, reading.values, strict=True)):
        prefix = torch.cat([twin.prefix_keys[layer], twin.prefix_values[layer]], dim=3)
        prefix = prefix.transpose(1, 2).expand(contexts, -1, -1, -1)
        rows = torch.cat([keys, values], dim=3).transpose(1, 2)
        rows = rows.reshape(contexts, documents * per_document, *rows.shape[2:])
        layers.append(torch.cat([prefix, rows], dim=1).flatten(0, 1))
    return Bank(layers, places)


def pooled_bank(twin: TrainingTwin, prefix_ids: Tensor, ids: Tensor, interval_tokens: int) -> Bank:
    """Read documents plainly, with pooled intervals for landmarks: ids (contexts, tokens).

    The training-free mode, for documents within the model's context.
    """
    contexts, tokens = ids.shape
    whole = torch.cat([prefix_ids.expand(contexts, -1), ids], dim=1)
    reading = twin.read(twin.embed(whole))
    prefix, intervals = len(prefix_ids), tokens // interval_tokens
    layers = []
    for keys, values in zip(reading.keys, reading.values, strict=True):
        rows = torch.cat([keys, values], dim=3).transpose(1, 2)
        raw = rows[:, prefix:].unflatten(1, (intervals, interval_tokens))
        spliced = torch.cat([raw, raw.mean(dim=2, keepdim=True)], dim=2).flatten(1, 2)
        layers.append(torch.cat([rows[:, :prefix], spliced], dim=1).flatten(0, 1))
    first = torch.arange(intervals, device=ids.device) * (interval_tokens + 1) + prefix
    places = Places(
        prefix=torch.arange(prefix, device=ids.device),
        first_tokens=first,
        interval_tokens=interval_tokens,
        rows=prefix + intervals * (interval_tokens + 1),
    )
    return Bank(layers, places)


def landmark_places(places: Places) -> Tensor:
    """Rows of the memory that scoring reads: the prefix and all landmarks, (memory,)."""
    return torch.cat([places.prefix, places.landmarks])


def refilled_places(places: Places, chosen: Tensor, kept: Tensor) -> Tensor:
    """Rows of refilled memories, (batch, memory).

    The prefix, then the kept landmarks, each chosen interval's tokens right before its own.

    Args:
        places: Where the rows of a context lie.
        chosen: Intervals to refill, (batch, chosen).
        kept: Intervals whose landmarks stay, chosen ones among them, (batch, kept).
    """
    within = torch.arange(places.interval_tokens, device=chosen.device)
    tokens = (places.first_tokens[chosen][:, :, None] + within).flatten(1)
    landmarks = places.landmarks[kept]
    # Rows lie in document order, a landmark behind its tokens: sorting them is the splice.
    spliced = torch.cat([landmarks, tokens], dim=1).sort(dim=1).values
    return torch.cat([places.prefix.expand(len(chosen), -1), spliced], dim=1)


def choose_intervals(scores: Tensor, gold: Tensor, forced: Tensor, count: int) -> Tensor:
    """Choose the best-scoring intervals of each question, gold ones first where forced.

    Args:
        scores: (questions, intervals), each between 0 and 1.
        gold: Above zero in gold intervals, same shape.
        forced: Whether gold intervals come first, (questions,).
        count: Intervals to choose.

    Returns:
        Chosen intervals, rising, (questions, count), int64.
    """
    favoured = scores.detach() + 2 * (gold > 0) * forced[:, None]
    return favoured.topk(min(count, scores.shape[1]), dim=1).indices.sort(dim=1).values


def keep_landmarks(scores: Tensor, chosen: Tensor, most: int) -> Tensor:
    """Keep the landmarks of chosen intervals, and those of the best-scoring others.

    Args:
        scores: (questions, intervals), each between 0 and 1.
        chosen: Intervals to refill, (questions, chosen).
        most: Most others to keep.

    Returns:
        Kept intervals, rising, (questions, kept), int64.
    """
    first = scores.detach().scatter(1, chosen, 2.0)
    count = min(chosen.shape[1] + most, scores.shape[1])
    return first.topk(count, dim=1).indices.sort(dim=1).values
