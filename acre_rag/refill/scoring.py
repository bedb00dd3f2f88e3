"""How much a question attends to each landmark.

ACRE, section 3.2: the question's queries against the landmarks' keys, both before rotation, softmax
over landmarks alone. Scores of several segments are comparable: one softmax runs over all of them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from acre_rag.cache.travel import sent, sent_small

_PROBABILITIES_AT_ONCE = 2**23


def attention_over_landmarks(
    queries: Sequence[Tensor], landmark_keys: Sequence[Tensor], scaling: float
) -> Tensor:
    """Attend from question rows to the landmarks of all segments, in one layer or several.

    Args:
        queries: For each segment, the question's queries as they were beside that segment's
            landmarks, not rotated, (..., q_heads, rows, head_dim).
        landmark_keys: For each segment, not rotated, (..., kv_heads, landmarks, head_dim); they
            may be on the host.
        scaling: Factor on the logits, 1/sqrt(head_dim) in most models.

    Returns:
        Probabilities over all landmarks, float32, (..., q_heads, rows, landmarks of all segments).

    Raises:
        ValueError: `q_heads` is not a multiple of `kv_heads`, or the head sizes differ.
    """
    logits = []
    for asked, keys in zip(queries, landmark_keys, strict=True):
        *_, q_heads, _, head_dim = asked.shape
        *_, kv_heads, landmarks, key_dim = keys.shape
        if q_heads % kv_heads or head_dim != key_dim:
            raise ValueError(
                f"queries {tuple(asked.shape)} do not fit keys {tuple(keys.shape)}: q_heads must "
                "be a multiple of kv_heads, and head_dim must be equal"
            )
        # A key head serves q_heads / kv_heads neighbouring query heads (grouped-query attention).
        grouped = asked.float().reshape(*asked.shape[:-3], kv_heads, -1, head_dim)
        near = sent(keys, asked.device).float()
        scores = grouped @ near.transpose(-2, -1) * scaling
        logits.append(scores.reshape(*asked.shape[:-1], landmarks))
    return torch.cat(logits, dim=-1).softmax(dim=-1)


def mixture_scores(
    queries: Sequence[Tensor],
    landmark_keys: Sequence[Tensor],
    *,
    groups: Sequence[range],
    weights: Tensor,
    scaling: float,
    layers: Sequence[int] | None = None,
) -> Tensor:
    """Score landmarks by a weighted mixture of heads; the scores of a question add up to 1.

    Our rule in place of ACRE's last layer (docs/paper-to-code.md): which heads look where the
    answer is was learned, or calibrated.

    Args:
        queries: For each segment, not rotated, (layers, q_heads, rows, head_dim).
        landmark_keys: For each segment, not rotated, (layers, kv_heads, landmarks, head_dim),
            of all layers.
        groups: Rows of each question group; a head's attention is averaged over them.
        weights: (layers, q_heads, groups), at least 0, adding up to 1.
        scaling: Factor on the logits.
        layers: Layers that the queries are of, rising, all that have weight among them; `None`
            where they are of all layers.

    Returns:
        Score of each landmark, float32, (landmarks of all segments,).
    """
    wanted = weighted_layers(weights)
    device, rows = queries[0].device, queries[0].shape[2]
    # Averages over rows, then heads, then layers are one sum with these weights.
    paid = sent_small(_row_weights(weights[wanted], groups, rows), device)
    own = {layer: place for place, layer in enumerate(layers or range(len(weights)))}
    places = [own[layer] for layer in wanted]
    landmarks = sum(keys.shape[2] for keys in landmark_keys)
    at_once = max(_PROBABILITIES_AT_ONCE // max(paid[0].numel() * landmarks, 1), 1)
    scores = torch.zeros(landmarks, device=device)
    for first in range(0, len(wanted), at_once):
        some = slice(first, first + at_once)
        attention = attention_over_landmarks(
            [_layers_of(asked, places[some], device) for asked in queries],
            [_layers_of(keys, wanted[some], device) for keys in landmark_keys],
            scaling,
        )
        scores += paid[some].reshape(-1) @ attention.reshape(-1, landmarks)
    return scores


def _row_weights(weights: Tensor, groups: Sequence[range], rows: int) -> Tensor:
    """Spread the weight of each group over its rows: (layers, q_heads, rows), float32."""
    spread = torch.zeros(len(groups), rows)
    for index, group in enumerate(groups):
        if group:  # a prompt may end with the question
            spread[index, group.start : group.stop] = 1 / len(group)
    return weights.float().cpu() @ spread


def _layers_of(tensor: Tensor, layers: Sequence[int], device: torch.device) -> Tensor:
    """Take layers, rising, to a device; at once where they are neighbours."""
    if layers[-1] - layers[0] + 1 == len(layers):
        return sent(tensor[layers[0] : layers[-1] + 1], device)
    return torch.stack([sent(tensor[layer], device) for layer in layers])


def weighted_layers(weights: Tensor) -> list[int]:
    """List the layers that a mixture looks at, rising: weights (layers, q_heads, groups)."""
    layers: list[int] = weights.sum(dim=(1, 2)).nonzero().flatten().tolist()
    return layers


def published_scores(
    queries: Sequence[Tensor], landmark_keys: Sequence[Tensor], scaling: float
) -> Tensor:
    """Score landmarks by the published rule: last layer, all heads, all question rows.

    The published code floors its logits (`//`); this divides. Shapes as in `mixture_scores`.

    Returns:
        Score of each landmark, adding up to 1, float32, (landmarks of all segments,).
    """
    attention = attention_over_landmarks(
        [asked[-1] for asked in queries], [keys[-1] for keys in landmark_keys], scaling
    )
    return attention.mean(dim=(0, 1))
