"""The rows of a question: its token ids, and its landmarks before the last of them.

Landmarks of the question see the question and what stands before it, and the last token, after
which the answer begins, sees them (docs/decisions/0011). Where the adapter has none, the rows are
the token ids alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from acre_rag.cache import KVBlock
from acre_rag.model.reading import Memory, ReadingTwin


@dataclass(frozen=True, slots=True)
class EmbeddedQuestions:
    """Rows of some questions.

    Attributes:
        embeddings: (questions, rows, hidden); shorter questions are padded behind, where no row
            that counts sees the padding.
        landmark_rows: Places of the landmarks, counted through all rows, (questions, landmarks);
            `None` where there are none.
    """

    embeddings: Tensor
    landmark_rows: Tensor | None


def embed_questions(twin: ReadingTwin, questions: Sequence[Tensor]) -> EmbeddedQuestions:
    """Embed questions, each (tokens,), with landmarks before the last token of each."""
    count = landmark_count(twin)
    if not count:
        return EmbeddedQuestions(twin.embed(pad_sequence(list(questions), batch_first=True)), None)
    room = questions[0].new_zeros(count)
    with_room = [torch.cat([own[:-1], room, own[-1:]]) for own in questions]
    ids = pad_sequence(with_room, batch_first=True)
    lengths = torch.tensor([len(own) + count for own in questions], device=ids.device)
    rows = question_landmark_rows(lengths, count, ids.shape[1])
    return EmbeddedQuestions(put_question_landmarks(twin, twin.embed(ids), rows), rows)


def landmark_count(twin: ReadingTwin) -> int:
    """Count the landmarks that a question gets."""
    return 0 if twin.adapter is None else twin.adapter.question_landmarks


def question_landmark_rows(lengths: Tensor, count: int, rows: int) -> Tensor:
    """Place landmarks before the last row of each question.

    Args:
        lengths: Rows of each question, landmarks included, (questions,).
        count: Landmarks of each.
        rows: Rows of each, padding included.

    Returns:
        Places counted through all rows, (questions, landmarks), int64.
    """
    each = torch.arange(len(lengths), device=lengths.device) * rows
    first = each + lengths - 1 - count
    return first[:, None] + torch.arange(count, device=lengths.device)


def put_question_landmarks(twin: ReadingTwin, embedded: Tensor, rows: Tensor) -> Tensor:
    """Put the landmarks' embeddings in their rows: (questions, rows, hidden).

    Raises:
        ValueError: The twin has no landmarks of the question.
    """
    own = twin.question_landmarks
    if own is None:
        raise ValueError("found no landmarks of the question; expected an adapter with some")
    marks = own.to(embedded).repeat(len(rows), 1)
    return embedded.flatten(0, 1).index_copy(0, rows.flatten(), marks).view_as(embedded)


def read_question(twin: ReadingTwin, memory: Memory, ids: Sequence[int]) -> tuple[KVBlock, int]:
    """Read a question behind a memory, all but its last token, so that this can be answered after.

    Args:
        twin: Reads with the adapter.
        memory: What stands before the question, of one entry.
        ids: Token ids of the question.

    Returns:
        What follows the memory, rotated to its place, (layers, kv_heads, rows, head_dim), and how
        many of the ids it holds: none where the question has no landmarks, which then need no
        pass of their own.
    """
    device = memory.keys.device
    if not ids or not landmark_count(twin):
        nothing = memory.keys[:, 0, :, :0]
        return KVBlock(nothing, nothing), 0
    asked = embed_questions(twin, [torch.tensor(ids, device=device)])
    rows = asked.embeddings[:, :-1]
    reading = twin.read(rows, memory=memory, landmark_rows=asked.landmark_rows)
    places = memory.tokens + torch.arange(rows.shape[1], device=device)
    keys = twin.rotate(reading.keys, places)
    return KVBlock(keys[:, 0], reading.values[:, 0]), len(ids) - 1
