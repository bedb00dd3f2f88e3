import pytest
import torch

from acre_rag.cache import KVBlock
from acre_rag.model import question as questions
from acre_rag.model.landmarks import LandmarkAdapter
from acre_rag.model.local import LocalModel
from acre_rag.model.question import question_queries
from acre_rag.model.reading import Memory, ReadingTwin
from tests.conftest import FindLocal
from tests.tiny import KV_HEADS, LAYERS

IDS = torch.tensor([5, 19, 120, 33])
NO_ROOM = 1  # asks for the coarse pass


def _block(tokens: int, rng: torch.Generator) -> KVBlock:
    return KVBlock(torch.randn(3, 2, tokens, 6, generator=rng),
                   torch.randn(3, 2, tokens, 6, generator=rng))  # fmt: skip


@pytest.fixture
def twin(local: LocalModel, adapter: LandmarkAdapter) -> ReadingTwin:
    return ReadingTwin(local.model, adapter)


@pytest.mark.parametrize("sizes", [(4, 4), (7, 1, 3), tuple(range(1, 12))])
@torch.inference_mode()
def test_segments_asked_in_batches_are_as_if_asked_one_by_one(
    twin: ReadingTwin, rng: torch.Generator, sizes: tuple[int, ...]
) -> None:
    prefix, segments = _block(5, rng), [_block(size, rng) for size in sizes]

    [batched] = question_queries(
        twin, [IDS], prefix=prefix, segments=segments, context_tokens=NO_ROOM
    )
    alone = [
        question_queries(twin, [IDS], prefix=prefix, segments=[segment], context_tokens=640)[0][0]
        for segment in segments
    ]

    assert len(batched) == len(alone)
    for ours, theirs in zip(batched, alone, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_landmarks_that_fit_together_are_asked_together(
    twin: ReadingTwin, rng: torch.Generator
) -> None:
    prefix, first, second = _block(5, rng), _block(4, rng), _block(3, rng)
    both = KVBlock.concatenate([first, second])

    room = 5 + 7 + len(IDS)
    [together] = question_queries(
        twin, [IDS], prefix=prefix, segments=[first, second], context_tokens=room
    )
    [as_one] = question_queries(twin, [IDS], prefix=prefix, segments=[both], context_tokens=room)
    [apart] = question_queries(
        twin, [IDS], prefix=prefix, segments=[first, second], context_tokens=room - 1
    )

    assert torch.equal(together[0], as_one[0])
    assert torch.equal(together[1], as_one[0])
    assert not torch.allclose(apart[1], as_one[0], atol=1e-2)


@pytest.mark.parametrize("spare", [0, -1, -29], ids=["together", "the longest apart", "apart"])
@torch.inference_mode()
def test_questions_asked_together_are_as_if_asked_one_by_one(
    find_local: FindLocal, family: str, rng: torch.Generator, spare: int
) -> None:
    twin = ReadingTwin(find_local(family, torch.float32).model, None)
    shape = (LAYERS, KV_HEADS, 7, twin.shape.head_dim)
    prefix, *segments = (
        KVBlock(torch.randn(shape, generator=rng), torch.randn(shape, generator=rng))
        for _ in range(3)
    )
    asked = [torch.arange(count) + 5 for count in (4, 1, 30, 2)]

    def ask(questions: list[torch.Tensor], room: int) -> list[list[torch.Tensor]]:
        return question_queries(
            twin, questions, prefix=prefix, segments=segments, context_tokens=room
        )

    room = 3 * 7 + 30 + spare
    together = ask(asked, room)
    alone = [ask([ids], room)[0] for ids in asked]

    for ours, theirs in zip(together, alone, strict=True):
        assert len(ours) == len(theirs) == len(segments)
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_memory_of_many_segments_is_bounded(
    twin: ReadingTwin, rng: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = []
    read = twin.read

    def watch(
        rows: torch.Tensor, *, memory: Memory, landmark_rows: None, keep_queries: bool
    ) -> object:
        batches.append(len(rows))
        return read(rows, memory=memory, landmark_rows=landmark_rows, keep_queries=keep_queries)

    monkeypatch.setattr(twin, "read", watch)
    segments = [_block(2, rng) for _ in range(questions._SEGMENTS_AT_ONCE * 2 + 1)]

    question_queries(twin, [IDS], prefix=_block(5, rng), segments=segments, context_tokens=NO_ROOM)

    assert batches == [questions._SEGMENTS_AT_ONCE] * 2 + [1]


@pytest.mark.parametrize("room", [NO_ROOM, 640], ids=["apart", "together"])
@pytest.mark.parametrize("layers", [[0], [1], [0, 1], [2], [0, 2]])
@torch.inference_mode()
def test_queries_of_some_layers_are_those_of_a_whole_pass_to_the_bit(
    find_local: FindLocal, family: str, rng: torch.Generator, room: int, layers: list[int]
) -> None:
    local = find_local(family, torch.float32)
    twin = ReadingTwin(local.model, None)
    shape = (LAYERS, KV_HEADS, 3, twin.shape.head_dim)
    prefix, *segments = (
        KVBlock(torch.randn(shape, generator=rng), torch.randn(shape, generator=rng))
        for _ in range(3)
    )

    def ask(layers: list[int] | None) -> list[torch.Tensor]:
        return question_queries(
            twin, [IDS], prefix=prefix, segments=segments, context_tokens=room, layers=layers
        )[0]

    for few, whole in zip(ask(layers), ask(None), strict=True):
        assert torch.equal(few, whole[layers])


@torch.inference_mode()
def test_layers_behind_the_last_one_that_is_wanted_are_not_run(
    twin: ReadingTwin, rng: torch.Generator
) -> None:
    run: list[int] = []
    for number, layer in enumerate(twin.decoder.layers):
        layer.register_forward_pre_hook(lambda *_, number=number: run.append(number))

    question_queries(
        twin,
        [IDS],
        prefix=_block(5, rng),
        segments=[_block(4, rng)],
        context_tokens=640,
        layers=[1],
    )

    assert run == [0, 1]
