"""Memory that is lent to one user at a time."""

import pytest
import torch

from acre_rag.cache import KVBlock
from acre_rag.model import replay
from acre_rag.model.replay import Replays
from acre_rag.model.standing import Standing

CPU = frozenset({"cpu"})


def _block(tokens: int = 2) -> KVBlock:
    return KVBlock(*torch.ones(2, 3, 2, tokens, 5))


def test_memory_is_lent_to_one_at_a_time() -> None:
    replays = Replays(CPU)

    first, second = replays.room(_block(), 10), replays.room(_block(), 10)
    third_while_lent = replays.room(_block(), 10)
    address = first.whole.keys.data_ptr()
    del first
    again = replays.room(_block(), 7)

    assert second.lease is third_while_lent.lease is None
    assert len({second.whole.keys.data_ptr(), third_while_lent.whole.keys.data_ptr(), address}) == 3
    assert again.whole.keys.data_ptr() == address
    assert again.tokens == 7


def test_what_is_behind_the_tokens_is_finite() -> None:
    replays = Replays(CPU)
    first = replays.room(_block(), 10)
    first.whole.keys.fill_(torch.nan)
    first.whole.values.fill_(torch.inf)
    del first

    again = replays.room(_block(), 4)

    assert not again.whole.keys[:, :, 4:].any()
    assert not again.whole.values[:, :, 4:].any()


def test_larger_memory_takes_the_place_of_what_is_too_small() -> None:
    replays = Replays(CPU)
    small = replays.room(_block(), 10).whole.tokens

    large = replays.room(_block(), 5000)

    assert small < 5000 < large.whole.tokens
    assert large.lease is not None


def test_memory_for_what_comes_next_is_made_at_once() -> None:
    replays = Replays(CPU)
    address = replays.room(_block(), 10, more=3000).whole.keys.data_ptr()

    assert replays.room(_block(), 3000).whole.keys.data_ptr() == address


def test_another_shape_or_dtype_gets_other_memory() -> None:
    replays = Replays(CPU)
    replays.room(_block(), 10)

    half = KVBlock(_block().keys.bfloat16(), _block().values.bfloat16())

    assert replays.room(half, 10).whole.keys.dtype == torch.bfloat16


def test_a_device_that_replays_nothing_is_given_memory_of_its_own() -> None:
    assert Replays().room(_block(), 10).lease is None


def test_what_is_too_large_to_stand_is_given_memory_of_its_own() -> None:
    room = Replays(CPU).room(_block(), replay.MOST_TOKENS + 1)

    assert room.lease is None


@pytest.mark.parametrize(
    ("rows", "tokens", "taken"),
    [(1, 10, 1), (2, 10, 64), (64, 10, 64), (512, 10, 512), (513, 10, None), (129, 30_000, None)],
)
def test_a_pass_has_few_rows_over_few_tokens(rows: int, tokens: int, taken: int | None) -> None:
    standing = Standing.like(_block(), max(tokens, 1000))

    assert standing.rows_for(torch.zeros(1, rows), tokens) == taken


def test_nothing_is_replayed_unless_that_is_wished() -> None:
    cuda, cpu = torch.device("cuda"), torch.device("cpu")

    assert not Replays().may_replay(cuda)
    assert Replays(frozenset({"cuda"})).may_replay(cuda)
    assert not Replays(frozenset({"cuda"})).may_replay(cpu)
