"""Questions over landmarks: a score for every interval."""

from collections.abc import Sequence

from torch import Tensor

from acre_rag.engine.asked import Segment
from acre_rag.model.answering import default_batch_tokens
from acre_rag.model.prompt import QuestionRows
from acre_rag.model.reader import DocumentReader
from acre_rag.refill import mixture_scores, published_scores, weighted_layers


def landmark_scores(
    reader: DocumentReader, segments: Sequence[Segment], questions: Sequence[QuestionRows]
) -> list[Tensor]:
    """Score the intervals of some segments by what each question attends to, (intervals,).

    So many questions go through the model together as a batch may have tokens.
    """
    longest = max(len(rows.ids) for rows in questions)
    remembered = reader.prefix.tokens + sum(len(segment.intervals) for segment in segments)
    at_once = max(default_batch_tokens(reader.local.device) // (remembered + longest), 1)
    scores: list[Tensor] = []
    for start in range(0, len(questions), at_once):
        scores += _scores(reader, segments, questions[start : start + at_once])
    return scores


def _scores(
    reader: DocumentReader, segments: Sequence[Segment], questions: Sequence[QuestionRows]
) -> list[Tensor]:
    landmarks = [segment.landmarks for segment in segments]
    keys = [block.keys for block in landmarks]
    shape, weights = reader.twin.shape, reader.selection
    if weights is None or reader.config.selection == "published":
        asked = reader.queries(questions, landmarks, [shape.layers - 1])
        return [published_scores(queries, keys, shape.scaling) for queries in asked]
    layers = weighted_layers(weights)
    asked = reader.queries(questions, landmarks, layers)
    return [
        mixture_scores(
            queries,
            keys,
            groups=rows.groups(reader.question_landmarks),
            weights=weights,
            scaling=shape.scaling,
            layers=layers,
        )
        for rows, queries in zip(questions, asked, strict=True)
    ]
