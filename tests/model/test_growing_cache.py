"""A growing cache beside the stock one, layer by layer and through `generate`."""

import pytest
import torch
from transformers import DynamicCache

from acre_rag.model.growing_cache import growing_cache
from acre_rag.model.local import LocalModel
from acre_rag.model.stock import copied, generate_plainly, prefill_plainly

LAYERS, HEADS, HEAD_DIM = 2, 3, 5


def _pairs(rng: torch.Generator, tokens: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    def random() -> torch.Tensor:
        return torch.randn(1, HEADS, tokens, HEAD_DIM, generator=rng)

    return [(random(), random()) for _ in range(LAYERS)]


def _check_equal(ours: DynamicCache, theirs: DynamicCache) -> None:
    assert ours.get_seq_length() == theirs.get_seq_length()
    for own, other in zip(ours.layers, theirs.layers, strict=True):
        torch.testing.assert_close(own.keys, other.keys, rtol=0, atol=0)
        torch.testing.assert_close(own.values, other.values, rtol=0, atol=0)


@pytest.mark.parametrize("added", [(1, 1, 1), (4, 1, 1), (300, 1, 2), (1, 400, 7)])
def test_it_holds_what_a_stock_cache_holds(rng: torch.Generator, added: tuple[int, ...]) -> None:
    held = _pairs(rng, 7)
    ours, theirs = growing_cache(held), DynamicCache(ddp_cache_data=held)

    for tokens in added:
        for layer, (keys, values) in enumerate(_pairs(rng, tokens)):
            shown = ours.update(keys, values, layer)
            expected = theirs.update(keys, values, layer)
            torch.testing.assert_close(shown, expected, rtol=0, atol=0)

    _check_equal(ours, theirs)


def test_it_copies_nothing_for_a_token_while_there_is_room(rng: torch.Generator) -> None:
    cache = growing_cache(_pairs(rng, 7))
    for layer, (keys, values) in enumerate(_pairs(rng, 2)):
        cache.update(keys, values, layer)
    before = [layer.keys.data_ptr() for layer in cache.layers]

    for layer, (keys, values) in enumerate(_pairs(rng, 1)):
        cache.update(keys, values, layer)

    assert [layer.keys.data_ptr() for layer in cache.layers] == before


def test_it_leaves_what_it_was_made_of_as_it_is(rng: torch.Generator) -> None:
    held = _pairs(rng, 7)
    before = [(keys.clone(), values.clone()) for keys, values in held]
    cache = growing_cache(held)

    for layer, (keys, values) in enumerate(_pairs(rng, 3)):
        cache.update(keys, values, layer)

    torch.testing.assert_close(held, before, rtol=0, atol=0)


def test_room_behind_its_tokens_is_used_and_nothing_copied(rng: torch.Generator) -> None:
    held, whole = _pairs(rng, 7), _pairs(rng, 9)
    for (keys, values), (roomy_keys, roomy_values) in zip(held, whole, strict=True):
        roomy_keys[..., :7, :], roomy_values[..., :7, :] = keys, values
    ours, theirs = growing_cache(whole, 7), DynamicCache(ddp_cache_data=held)
    before = [keys.data_ptr() for keys, _ in whole]
    _check_equal(ours, theirs)

    for tokens, moved in ((2, False), (1, True), (3, True)):
        for layer, (keys, values) in enumerate(_pairs(rng, tokens)):
            shown = ours.update(keys, values, layer)
            torch.testing.assert_close(shown, theirs.update(keys, values, layer), rtol=0, atol=0)
        assert moved == ([layer.keys.data_ptr() for layer in ours.layers] != before)
    _check_equal(ours, theirs)


def test_it_may_be_cropped_and_reordered_like_a_stock_cache(rng: torch.Generator) -> None:
    held = _pairs(rng, 7)
    ours, theirs = growing_cache(held), DynamicCache(ddp_cache_data=held)

    for tokens in (5, 3):
        for layer, (keys, values) in enumerate(_pairs(rng, tokens)):
            ours.update(keys, values, layer)
            theirs.update(keys, values, layer)
        for cache in (ours, theirs):
            cache.crop(-2)
            cache.reorder_cache(torch.tensor([0]))

    _check_equal(ours, theirs)


def test_the_model_answers_over_it_word_for_word_as_over_a_stock_cache(local: LocalModel) -> None:
    ids = list(range(3, 40))
    cache = prefill_plainly(local, ids, chunk_tokens=16)
    grown = growing_cache([(layer.keys, layer.values) for layer in copied(cache).layers])

    ours = generate_plainly(local, [7, 8, 9], grown, 12)
    theirs = generate_plainly(local, [7, 8, 9], copied(cache), 12)

    assert ours == theirs
    assert len(ours) > 1
