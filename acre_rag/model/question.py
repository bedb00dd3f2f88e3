"""Run a question over L1 and keep its queries.

ACRE, section 3.2: the question attends to landmarks in every layer. Where all landmarks fit the
context, it runs over all of them at once; else over each segment's, in batches (a coarse pass).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from acre_rag.cache import KVBlock
from acre_rag.model.reading import Memory, ReadingTwin

_SEGMENTS_AT_ONCE = 8  # bounds the memory of one pass, however many documents are asked


def question_queries(
    twin: ReadingTwin,
    ids: Tensor,
    *,
    prefix: KVBlock,
    segments: Sequence[KVBlock],
    context_tokens: int,
    layers: Sequence[int] | None = None,
) -> list[Tensor]:
    """Read a question beside landmarks and keep its queries.

    The pass ends with the last layer whose queries are wanted.

    Args:
        twin: Reader of the model's weights.
        ids: Everything that follows the documents, (rows,).
        prefix: Keys and values of the prompt before the documents, not rotated.
        segments: Landmarks of each segment, not rotated.
        context_tokens: Longest sequence the model may see.
        layers: Layers whose queries are wanted, rising; `None` for all.

    Returns:
        For each segment, the question's queries beside it, not rotated,
        (layers wanted, q_heads, rows, head_dim).
    """
    if layers is not None:
        depth = layers[-1] + 1
        twin = twin.first_layers(depth)
        prefix = _first_layers(prefix, depth)
        segments = [_first_layers(segment, depth) for segment in segments]
    landmarks = sum(segment.tokens for segment in segments)
    if prefix.tokens + landmarks + len(ids) <= context_tokens:
        memory = KVBlock.concatenate([prefix, *segments])
        return [_queries(twin, ids, [memory], layers)[:, 0]] * len(segments)
    found: list[Tensor] = []
    for start in range(0, len(segments), _SEGMENTS_AT_ONCE):
        batch = segments[start : start + _SEGMENTS_AT_ONCE]
        memories = [KVBlock.concatenate([prefix, segment]) for segment in batch]
        found.extend(_queries(twin, ids, memories, layers).unbind(1))
    return found


def _first_layers(block: KVBlock, layers: int) -> KVBlock:
    return KVBlock(block.keys[:layers], block.values[:layers])


def _queries(
    twin: ReadingTwin, ids: Tensor, memories: Sequence[KVBlock], layers: Sequence[int] | None
) -> Tensor:
    """Read ids beside each memory: queries (layers, memories, q_heads, rows, head_dim)."""
    rows = twin.embed(ids[None]).expand(len(memories), -1, -1)
    queries = twin.read(rows, memory=_batch(twin, memories), keep_queries=True).queries
    if queries is None:
        raise ValueError("the pass kept no queries; expected keep_queries to be honoured")
    # A copy of few layers lets go of all others, which many segments could not all keep.
    return queries if layers is None else queries[list(layers)]


def _batch(twin: ReadingTwin, memories: Sequence[KVBlock]) -> Memory:
    """Put memories of different lengths into one, the shorter ones padded in front."""
    longest = max(memory.tokens for memory in memories)
    keys, values, hidden = [], [], []
    for block in memories:
        memory = twin.remember(block.keys[:, None], block.values[:, None])
        room = (0, 0, longest - block.tokens, 0)  # of the last two axes, tokens in front
        keys.append(torch.nn.functional.pad(memory.keys, room))
        values.append(torch.nn.functional.pad(memory.values, room))
        hidden.append(torch.arange(longest) < longest - block.tokens)
    padded = torch.stack(hidden).to(keys[0].device)
    return Memory(
        keys=torch.cat(keys, dim=1),
        values=torch.cat(values, dim=1),
        hidden=padded if bool(padded.any()) else None,
    )
