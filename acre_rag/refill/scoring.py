"""How much a question attends to each landmark.

ACRE, section 3.2: the question's queries against the landmarks' keys, both before rotation, softmax
over landmarks alone. Scores of several segments are comparable: one softmax runs over all of them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def attention_over_landmarks(
    queries: Sequence[Tensor], landmark_keys: Sequence[Tensor], scaling: float
) -> Tensor:
    """Attend from question rows to the landmarks of all segments, in one layer.

    Args:
        queries: For each segment, the question's queries as they were beside that segment's
            landmarks, not rotated, (q_heads, rows, head_dim).
        landmark_keys: For each segment, not rotated, (kv_heads, landmarks, head_dim).
        scaling: Factor on the logits, 1/sqrt(head_dim) in most models.

    Returns:
        Probabilities over all landmarks, float32, (q_heads, rows, landmarks of all segments).

    Raises:
        ValueError: `q_heads` is not a multiple of `kv_heads`, or the head sizes differ.
    """
    logits = []
    for asked, keys in zip(queries, landmark_keys, strict=True):
        q_heads, rows, head_dim = asked.shape
        kv_heads, _, key_dim = keys.shape
        if q_heads % kv_heads or head_dim != key_dim:
            raise ValueError(
                f"queries {tuple(asked.shape)} do not fit keys {tuple(keys.shape)}: q_heads must "
                "be a multiple of kv_heads, and head_dim must be equal"
            )
        # A key head serves q_heads / kv_heads neighbouring query heads (grouped-query attention).
        grouped = asked.float().reshape(kv_heads, -1, head_dim)
        scores = grouped @ keys.float().transpose(1, 2) * scaling
        logits.append(scores.reshape(q_heads, rows, -1))
    return torch.cat(logits, dim=2).softmax(dim=2)


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
    places = {layer: place for place, layer in enumerate(layers or range(len(weights)))}
    landmarks = sum(keys.shape[2] for keys in landmark_keys)
    scores = torch.zeros(landmarks, device=landmark_keys[0].device)
    for layer in weighted_layers(weights):
        attention = attention_over_landmarks(
            [asked[places[layer]] for asked in queries],
            [keys[layer] for keys in landmark_keys],
            scaling,
        )
        for index, group in enumerate(groups):
            if not group:  # a prompt may end with the question
                continue
            paid = attention[:, group.start : group.stop].mean(dim=1)
            scores += weights[layer, :, index].to(paid) @ paid
    return scores


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
