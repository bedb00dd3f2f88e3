"""Steps of fixed shape beside the model's own, through stock `generate`, on every family."""

import logging
import threading
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from acre_rag.cache import RoomyBlock, roomy
from acre_rag.cache.block import KVBlock
from acre_rag.model import growing_cache
from acre_rag.model.batched import answer_batch, remembered
from acre_rag.model.decode import Watch, generate_greedily, rotate_into_cache
from acre_rag.model.growing_cache import rooms_of
from acre_rag.model.local import LocalModel
from acre_rag.model.reading import ReadingTwin
from acre_rag.model.replay import LEAST_TOKENS, Replays
from acre_rag.model.step import Step, StepTwin
from tests.tiny import tiny_local

IDS = [5, 19, 120, 33]
NEW = 20


@pytest.fixture
def replaying(local: LocalModel) -> LocalModel:
    """The same model, its steps put together as a GPU replays them."""
    return replace(local, replays=Replays(frozenset({"cpu"})))


def _block(local: LocalModel, tokens: int, seed: int = 0) -> KVBlock:
    shape = ReadingTwin(local.model, None).shape
    generator = torch.Generator().manual_seed(seed)
    sizes = (shape.layers, shape.kv_heads, tokens, shape.head_dim)
    return KVBlock(*torch.randn(2, *sizes, generator=generator).to(local.model.dtype))


def _answered(local: LocalModel, block: KVBlock, new_tokens: int = NEW) -> Tensor:
    watch = Watch(threading.Event(), lambda: None)
    with torch.inference_mode():
        twin = ReadingTwin(local.model, None)
        cache = rotate_into_cache(local, twin, RoomyBlock.copied(block))
        # NaNs in the room would be seen, were they looked at.
        for layer in cache.layers:
            for part in layer._room:
                part[:, :, block.tokens :] = torch.nan
        return generate_greedily(local, IDS, cache, new_tokens, watch)


def test_answers_are_those_of_the_models_own_steps(family: str) -> None:
    local = tiny_local(family)
    replaying = replace(local, replays=Replays(frozenset({"cpu"})))
    block = _block(local, 9)

    ours, theirs = _answered(replaying, block), _answered(local, block)

    assert ours.tolist() == theirs.tolist()
    assert replaying.replays.captured == 1
    assert local.replays.captured == 0


def test_passes_are_those_of_the_models_own(family: str) -> None:
    local = tiny_local(family)
    block = _block(local, 9)
    with torch.inference_mode():
        twin = ReadingTwin(local.model, None)
        cache = rotate_into_cache(local, twin, RoomyBlock.copied(block))
        memory = twin.remember(block.keys[:, None], block.values[:, None])
        rooms = rooms_of(cache)
        assert rooms is not None
        for part in (part for room in rooms for part in room):
            part[:, :, 9:] = 0
        places = 9
        for rows, ids in ((6, IDS), (1, [7]), (1, [200]), (6, [3, 3, 1, 2, 9, 8])):
            step = Step(StepTwin(local.model), rooms, rows)
            step.ask(torch.tensor([ids]), places, places)
            step.run()
            ours = step.logits
            if places == 9:
                read = twin.read(twin.embed(torch.tensor([ids])), memory=memory, keep_queries=True)
                for own, other in zip(step.queries, read.queries, strict=True):
                    torch.testing.assert_close(own[:, :, : len(ids)], other, rtol=1e-4, atol=1e-4)
            theirs = local.model(torch.tensor([ids]), past_key_values=cache).logits[:, -1:]
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
            places += len(ids)


def test_an_answer_that_outgrows_its_room_is_captured_anew(
    local: LocalModel, replaying: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (roomy, growing_cache):
        monkeypatch.setattr(module, "ROOM_TOKENS", 8)
    block = _block(local, 9)

    ours, theirs = _answered(replaying, block), _answered(local, block)

    assert ours.tolist() == theirs.tolist()
    assert ours.shape[1] == len(IDS) + NEW
    assert replaying.replays.captured > 1


def test_batches_are_answered_as_by_the_models_own_steps(
    local: LocalModel, replaying: LocalModel
) -> None:
    twin = ReadingTwin(local.model, None)
    prompts = [
        remembered(twin, _block(local, tokens, seed), IDS[:ids])
        for seed, (tokens, ids) in enumerate([(9, 4), (3, 2), (14, 3)])
    ]

    ours, theirs = (answer_batch(one, prompts, NEW) for one in (replaying, local))

    assert ours == theirs
    assert replaying.replays.captured == 1


def test_a_short_answer_is_not_worth_a_capture(replaying: LocalModel) -> None:
    _answered(replaying, _block(replaying, 9), LEAST_TOKENS - 1)

    assert replaying.replays.captured == 0


def test_steps_that_differ_are_not_used(
    local: LocalModel,
    replaying: LocalModel,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = Step.run

    def wrong(step: Step) -> None:
        run(step)
        step.logits = step.logits.flip(-1)

    monkeypatch.setattr(Step, "run", wrong)
    block = _block(local, 9)

    with caplog.at_level(logging.WARNING):
        ours = [_answered(replaying, block).tolist() for _ in range(2)]

    assert ours == [_answered(local, block).tolist()] * 2
    assert replaying.replays.captured == 1
    assert caplog.text.count("no pass is replayed") == 1


def test_a_device_that_cannot_capture_is_answered_without(
    local: LocalModel, replaying: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Step) -> None:
        raise RuntimeError("no capture here")

    monkeypatch.setattr(Step, "run", refuse)
    block = _block(local, 9)

    assert _answered(replaying, block).tolist() == _answered(local, block).tolist()


def test_the_model_is_left_as_it_is(local: LocalModel, replaying: LocalModel) -> None:
    before = dict(local.model.__dict__)

    _answered(replaying, _block(local, 9))

    assert dict(local.model.__dict__) == before
