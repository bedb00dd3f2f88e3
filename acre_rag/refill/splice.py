"""Put the chosen intervals' L2 back, each immediately before its own landmark, which stays.

ACRE, figure (b): `L1 | L1 | L2 L2 L1 | L2 L2 L1 | question`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from acre_rag.cache import KVBlock, RoomyBlock


def splice_order(landmark_intervals: Tensor, token_intervals: Tensor) -> Tensor:
    """Order landmarks and refilled tokens as they stand in the document.

    Args:
        landmark_intervals: Interval of each landmark, rising, (landmarks,), int64.
        token_intervals: Interval of each refilled token, in order, (refilled,), int64.

    Returns:
        Places in the concatenation (landmarks, then tokens), (landmarks + refilled,), int64.
    """
    # Tokens of an interval come before its landmark; a stable sort keeps their own order.
    ranks = torch.cat([landmark_intervals * 2 + 1, token_intervals * 2])
    return torch.argsort(ranks, stable=True)


def splice(
    prefix: KVBlock,
    landmarks: Sequence[KVBlock],
    landmark_intervals: Tensor,
    refill: Sequence[KVBlock],
    token_intervals: Tensor,
) -> RoomyBlock:
    """Lay out what the model answers from; keys stay un-rotated.

    Every token is written once, to where it belongs.

    Args:
        prefix: What stands before the documents, (layers, kv_heads, tokens, head_dim).
        landmarks: L1 that is kept, in order; none where raw tokens stand alone.
        landmark_intervals: Interval of each landmark, (landmarks,), int64.
        refill: L2 of the chosen intervals, in order, in as many parts as there are; none for the
            budget 0.
        token_intervals: Interval of each refilled token, (refilled,), int64.

    Returns:
        Prefix, then landmarks and refilled tokens in document order, with room behind them.
    """
    places = torch.argsort(splice_order(landmark_intervals, token_intervals)) + prefix.tokens
    spliced = RoomyBlock.like(prefix, prefix.tokens + len(places))
    spliced.put(prefix, torch.arange(prefix.tokens))
    parts = [*landmarks, *refill]
    for part, own in zip(parts, places.split([part.tokens for part in parts]), strict=True):
        spliced.put(part, own)
    return spliced
