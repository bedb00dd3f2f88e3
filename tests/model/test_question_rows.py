"""Landmarks of a question see what stands before them, and the last token sees them."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from acre_rag.cache import KVBlock, RoomyBlock
from acre_rag.errors import AdapterError
from acre_rag.model.decode import asked_cache
from acre_rag.model.local import LocalModel
from acre_rag.model.prompt import QuestionRows
from acre_rag.model.question import question_queries
from acre_rag.model.question_rows import embed_questions, read_question
from acre_rag.model.reading import Memory, ReadingTwin
from tests.conftest import FindLocal
from tests.tiny import CONTEXT, HIDDEN, KV_HEADS, LAYERS, tiny_adapter

LANDMARKS = 3
QUESTIONS = ([5, 19, 120, 33], [7], [9, 14, 2, 2, 81, 40])
CLOSE = {"rtol": 1e-4, "atol": 1e-4}  # float32, sums in another order


@pytest.fixture
def model(find_local: FindLocal, family: str) -> LocalModel:
    return find_local(family, torch.float32)


@pytest.fixture(params=["low-rank", "full"])
def twin(model: LocalModel, request: pytest.FixtureRequest) -> ReadingTwin:
    adapter = tiny_adapter(model.model.config, request.param, question_landmarks=LANDMARKS)
    return ReadingTwin(model.model, adapter)


def _block(twin: ReadingTwin, tokens: int, rng: torch.Generator) -> KVBlock:
    shape = (LAYERS, KV_HEADS, tokens, twin.shape.head_dim)
    return KVBlock(torch.randn(shape, generator=rng), torch.randn(shape, generator=rng))


def _by_hand(twin: ReadingTwin, ids: list[int]) -> tuple[Tensor, Tensor]:
    """One question's rows put together one after the other, and where its landmarks are."""
    assert twin.question_landmarks is not None
    first, last = twin.embed(torch.tensor([ids[:-1]]).long()), twin.embed(torch.tensor([ids[-1:]]))
    rows = torch.cat([first, twin.question_landmarks[None], last], dim=1)
    return rows, torch.arange(len(ids) - 1, len(ids) - 1 + LANDMARKS)


@torch.inference_mode()
def test_questions_of_any_length_together_are_each_as_by_hand(
    twin: ReadingTwin, rng: torch.Generator
) -> None:
    block = _block(twin, 6, rng)
    memory = twin.remember(block.keys[:, None], block.values[:, None])

    asked = embed_questions(twin, [torch.tensor(ids) for ids in QUESTIONS])
    read = twin.read(
        asked.embeddings, memory=memory, landmark_rows=asked.landmark_rows, keep_queries=True
    )

    for index, ids in enumerate(QUESTIONS):
        rows, landmarks = _by_hand(twin, ids)
        theirs = twin.read(rows, memory=memory, landmark_rows=landmarks, keep_queries=True)
        count = rows.shape[1]
        torch.testing.assert_close(read.states[index, :count], theirs.states[0], **CLOSE)
        torch.testing.assert_close(read.keys[:, index, :, :count], theirs.keys[:, 0], **CLOSE)
        assert read.queries is not None
        assert theirs.queries is not None
        ours = read.queries[:, index, :, :count]
        torch.testing.assert_close(ours, theirs.queries[:, 0], **CLOSE)


@torch.inference_mode()
def test_an_answer_begins_as_if_all_rows_were_read_in_one_pass(
    model: LocalModel, twin: ReadingTwin, rng: torch.Generator
) -> None:
    block = _block(twin, 9, rng)
    ids = QUESTIONS[0]

    cache, left = asked_cache(model, twin, RoomyBlock.copied(block), ids)
    ours = model.model.model(torch.tensor([left]), past_key_values=cache).last_hidden_state

    rows, landmarks = _by_hand(twin, ids)
    memory = twin.remember(block.keys[:, None], block.values[:, None])
    theirs = twin.read(rows, memory=memory, landmark_rows=landmarks).states
    assert left == ids[-1:]
    assert cache.get_seq_length() == 9 + len(ids) + LANDMARKS
    torch.testing.assert_close(ours[0, -1], theirs[0, -1], **CLOSE)


@torch.inference_mode()
def test_without_landmarks_of_the_question_nothing_is_read(
    model: LocalModel, rng: torch.Generator
) -> None:
    twin = ReadingTwin(model.model, tiny_adapter(model.model.config))
    block = _block(twin, 4, rng)
    memory = Memory(block.keys[:, None], block.values[:, None])

    own, held = read_question(twin, memory, QUESTIONS[0])

    assert (own.tokens, held) == (0, 0)


@torch.inference_mode()
def test_queries_of_many_segments_are_those_beside_each(
    twin: ReadingTwin, rng: torch.Generator
) -> None:
    prefix, segments = _block(twin, 5, rng), [_block(twin, size, rng) for size in (4, 7, 1)]
    asked = [torch.tensor(ids) for ids in QUESTIONS]

    apart = question_queries(twin, asked, prefix=prefix, segments=segments, context_tokens=1)

    for ids, found in zip(asked, apart, strict=True):
        for segment, ours in zip(segments, found, strict=True):
            [[theirs]] = question_queries(
                twin, [ids], prefix=prefix, segments=[segment], context_tokens=CONTEXT
            )
            assert ours.shape[2] == len(ids) + LANDMARKS
            torch.testing.assert_close(ours, theirs, **CLOSE)


def test_landmarks_count_where_a_question_has_to_fit_beside_all_segments(
    find_local: FindLocal, rng: torch.Generator
) -> None:
    model = find_local("llama", torch.float32).model
    twin = ReadingTwin(model, tiny_adapter(model.config, question_landmarks=LANDMARKS))
    prefix, segments = _block(twin, 5, rng), [_block(twin, 4, rng), _block(twin, 4, rng)]
    ids = torch.tensor(QUESTIONS[0])
    room = 5 + 8 + len(ids) + LANDMARKS

    def queries(context_tokens: int) -> list[Tensor]:
        [found] = question_queries(
            twin, [ids], prefix=prefix, segments=segments, context_tokens=context_tokens
        )
        return found

    with torch.inference_mode():
        together, apart = queries(room), queries(room - 1)

    assert torch.equal(together[0], together[1])
    assert not torch.allclose(apart[0], apart[1], atol=1e-2)


def test_landmarks_are_a_group_of_rows_of_their_own() -> None:
    rows = QuestionRows(ids=[1, 2, 3, 4, 5, 6], question=range(1, 3), tail=range(3, 6))

    assert rows.groups() == (range(1, 3), range(3, 6), range(5, 6))
    assert rows.groups(4) == (range(1, 3), range(3, 5), range(9, 10), range(5, 9))


def test_embeddings_of_another_width_are_refused(find_local: FindLocal) -> None:
    model = find_local("llama", torch.float32).model
    adapter = tiny_adapter(model.config, question_landmarks=LANDMARKS)
    wrong = replace(adapter, question_embeddings=torch.zeros(LANDMARKS, HIDDEN + 1))

    with pytest.raises(AdapterError, match=r"question landmarks are \(3, \d+\); expected"):
        ReadingTwin(model, wrong)
