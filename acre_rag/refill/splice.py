"""Put the chosen intervals' L2 back, each immediately before its own landmark, which stays.

ACRE, figure (b): `L1 | L1 | L2 L2 L1 | L2 L2 L1 | question`.
"""

import torch
from torch import Tensor

from acre_rag.cache import KVBlock


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
    landmarks: KVBlock, landmark_intervals: Tensor, refill: KVBlock | None, token_intervals: Tensor
) -> KVBlock:
    """Splice refilled tokens into the landmarks; keys stay un-rotated.

    Args:
        landmarks: L1 that is kept, (layers, kv_heads, landmarks, head_dim).
        landmark_intervals: Interval of each landmark, (landmarks,), int64.
        refill: L2 of the chosen intervals, `None` for none (budget 0).
        token_intervals: Interval of each refilled token, (refilled,), int64.

    Returns:
        (layers, kv_heads, landmarks + refilled, head_dim), in document order.
    """
    if refill is None:
        return landmarks
    order = splice_order(landmark_intervals, token_intervals).to(landmarks.keys.device)
    return KVBlock.concatenate([landmarks, refill]).take(order)
