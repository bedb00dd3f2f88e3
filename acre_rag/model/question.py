"""Run a question over L1 and keep its queries.

ACRE, section 3.2: the question attends to landmarks in every layer. Where all landmarks fit the
context, it runs over all of them at once; else over each segment's, in batches (a coarse pass).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from acre_rag.cache import KVBlock
from acre_rag.model.local import LocalModel
from acre_rag.model.question_rows import EmbeddedQuestions, embed_questions, landmark_count
from acre_rag.model.reading import Memory, ReadingTwin
from acre_rag.model.support import layer_devices

_REFILL_TOKENS = 4096  # most that a default refill brings behind what the question looks at
_SEGMENTS_AT_ONCE = 8  # bounds the memory of one pass, however many documents are asked


def question_queries(
    twin: ReadingTwin,
    questions: Sequence[Tensor],
    *,
    prefix: KVBlock,
    segments: Sequence[KVBlock],
    context_tokens: int,
    layers: Sequence[int] | None = None,
) -> list[list[Tensor]]:
    """Read questions beside the same landmarks, each for itself, and keep their queries.

    The pass ends with the last layer whose queries are wanted.

    Args:
        twin: Reader of the model's weights.
        questions: For each one, everything that follows the documents, (rows,).
        prefix: Keys and values of the prompt before the documents, not rotated.
        segments: Landmarks of each segment, not rotated.
        context_tokens: Longest sequence the model may see.
        layers: Layers whose queries are wanted, rising; `None` for all.

    Returns:
        For each question, and each segment, its queries beside it, not rotated, those of the
        question's landmarks before the last token's, (layers wanted, q_heads, rows, head_dim).
    """
    if layers is not None:
        depth = layers[-1] + 1
        twin = twin.first_layers(depth)
        prefix = _first_layers(prefix, depth)
        segments = [_first_layers(segment, depth) for segment in segments]
    room = context_tokens - prefix.tokens - sum(segment.tokens for segment in segments)
    room -= landmark_count(twin)
    fitting = [ids for ids in questions if len(ids) <= room]
    together = iter(_beside_all(twin, fitting, prefix, segments, layers))
    return [
        [next(together)] * len(segments)
        if len(ids) <= room
        else _beside_each(twin, ids, prefix, segments, layers)
        for ids in questions
    ]


def replayed_queries(  # as `question_queries`
    local: LocalModel,
    twin: ReadingTwin,
    questions: Sequence[Tensor],
    prefix: KVBlock,
    segments: Sequence[KVBlock],
    context_tokens: int,
) -> Tensor | None:
    """Read a question beside all segments by a captured pass, if it is the only one.

    Returns:
        Its queries, not rotated, (layers, q_heads, rows, head_dim); `None` where that is for
        `question_queries`.
    """
    ids, *others = questions
    tokens = prefix.tokens + sum(segment.tokens for segment in segments)
    fits = tokens + len(ids) <= context_tokens
    if others or not fits or not local.replays.may_replay(prefix.keys.device):
        return None
    if landmark_count(twin):  # which a captured pass does not have
        return None
    if len(set(layer_devices(local.model))) > 1:
        return None
    memory = local.replays.room(prefix, tokens, more=min(4 * tokens, _REFILL_TOKENS))
    if memory.lease is None:
        return None
    first = 0
    for block in (prefix, *segments):
        memory.put(block, torch.arange(first, first + block.tokens))
        first += block.tokens
    keys = memory.taken.keys[:, None]
    twin.rotate_in_place(keys, torch.arange(tokens, device=keys.device))

    def theirs() -> Tensor:
        [[found, *_]] = question_queries(
            twin, [ids], prefix=prefix, segments=segments, context_tokens=context_tokens
        )
        return found

    return local.replays.queries(local.model, ids, memory, theirs)


def _beside_all(
    twin: ReadingTwin,
    questions: Sequence[Tensor],
    prefix: KVBlock,
    segments: Sequence[KVBlock],
    layers: Sequence[int] | None,
) -> list[Tensor]:
    """Read questions beside all segments in one pass."""
    if not questions:
        return []
    memory = _memory(twin, prefix, segments)
    queries = _queries(twin, embed_questions(twin, questions), memory, layers).unbind(1)
    more = landmark_count(twin)
    return [own[:, :, : len(ids) + more] for own, ids in zip(queries, questions, strict=True)]


def _beside_each(
    twin: ReadingTwin,
    ids: Tensor,
    prefix: KVBlock,
    segments: Sequence[KVBlock],
    layers: Sequence[int] | None,
) -> list[Tensor]:
    """Read one question beside each segment alone, some segments in a pass."""
    found: list[Tensor] = []
    for start in range(0, len(segments), _SEGMENTS_AT_ONCE):
        batch = segments[start : start + _SEGMENTS_AT_ONCE]
        memory = _batch([_memory(twin, prefix, [segment]) for segment in batch])
        rows = embed_questions(twin, [ids] * len(batch))
        found.extend(_queries(twin, rows, memory, layers).unbind(1))
    return found


def _first_layers(block: KVBlock, layers: int) -> KVBlock:
    return KVBlock(block.keys[:layers], block.values[:layers])


def _memory(twin: ReadingTwin, prefix: KVBlock, segments: Sequence[KVBlock]) -> Memory:
    """Put prefix and landmarks together where the prefix is, and rotate them there."""
    block = KVBlock.gathered([prefix, *segments])
    keys = block.keys[:, None]
    twin.rotate_in_place(keys, torch.arange(block.tokens, device=keys.device))
    return Memory(keys, block.values[:, None])


def _queries(
    twin: ReadingTwin, asked: EmbeddedQuestions, memory: Memory, layers: Sequence[int] | None
) -> Tensor:
    """Read questions beside one memory each, or all beside one.

    Returns:
        (layers, batch, q_heads, rows, head_dim).
    """
    queries = twin.read(
        asked.embeddings, memory=memory, landmark_rows=asked.landmark_rows, keep_queries=True
    ).queries
    if queries is None:
        raise ValueError("the pass kept no queries; expected keep_queries to be honoured")
    # A copy of few layers lets go of all others, which many segments could not all keep.
    return layers_of(queries, layers)


def layers_of(queries: Tensor, layers: Sequence[int] | None) -> Tensor:
    """Copy the queries of some layers, rising; `None` gives all."""
    if layers is None or len(layers) == len(queries):
        return queries
    return torch.stack([queries[layer] for layer in layers])


def _batch(memories: Sequence[Memory]) -> Memory:
    """Put memories of different lengths into one, the shorter ones padded in front."""
    if len(memories) == 1:
        return memories[0]
    longest = max(memory.tokens for memory in memories)
    keys, values, hidden = [], [], []
    for memory in memories:
        room = (0, 0, longest - memory.tokens, 0)  # of the last two axes, tokens in front
        keys.append(torch.nn.functional.pad(memory.keys, room))
        values.append(torch.nn.functional.pad(memory.values, room))
        hidden.append(torch.arange(longest) < longest - memory.tokens)
    padded = torch.stack(hidden).to(keys[0].device)
    return Memory(
        keys=torch.cat(keys, dim=1),
        values=torch.cat(values, dim=1),
        hidden=padded if bool(padded.any()) else None,
    )
