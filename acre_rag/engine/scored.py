"""A question over landmarks: a score for every interval."""

from collections.abc import Sequence

import torch

from acre_rag.engine.asked import Segment
from acre_rag.model.prompt import QuestionRows
from acre_rag.model.reader import DocumentReader
from acre_rag.refill import mixture_scores, published_scores, weighted_layers


def landmark_scores(
    reader: DocumentReader, segments: Sequence[Segment], rows: QuestionRows
) -> torch.Tensor:
    """Score the intervals of some segments by what a question attends to, (intervals,)."""
    landmarks = [segment.landmarks for segment in segments]
    keys = [block.keys for block in landmarks]
    shape, weights = reader.twin.shape, reader.selection
    if weights is None or reader.config.selection == "published":
        queries = reader.queries(rows, landmarks, [shape.layers - 1])
        return published_scores(queries, keys, shape.scaling)
    layers = weighted_layers(weights)
    return mixture_scores(
        reader.queries(rows, landmarks, layers),
        keys,
        groups=rows.groups,
        weights=weights,
        scaling=shape.scaling,
        layers=layers,
    )
