import math

import pytest
import torch
from torch import Tensor

from acre_rag.refill import mixture_scores, published_scores, weighted_layers
from acre_rag.refill.scoring import attention_over_landmarks
from tests.reference import choice

LAYERS, ROWS, HEAD_DIM, SCALING = 2, 5, 6, 0.37
GROUPS = (range(1, 3), range(3, 5), range(4, 5))


def _case(
    rng: torch.Generator, q_heads: int, kv_heads: int, sizes: tuple[int, ...]
) -> tuple[list[Tensor], list[Tensor]]:
    queries = [torch.randn(LAYERS, q_heads, ROWS, HEAD_DIM, generator=rng) for _ in sizes]
    keys = [torch.randn(LAYERS, kv_heads, size, HEAD_DIM, generator=rng) for size in sizes]
    return queries, keys


def _weights(rng: torch.Generator, q_heads: int) -> Tensor:
    weights = torch.rand(LAYERS, q_heads, len(GROUPS), generator=rng)
    return weights / weights.sum()


@pytest.mark.parametrize(("q_heads", "kv_heads"), [(4, 4), (4, 2), (4, 1)])
@pytest.mark.parametrize("sizes", [(7,), (3, 1, 4)])
def test_mixture_scores_match_the_definition(
    q_heads: int, kv_heads: int, sizes: tuple[int, ...], rng: torch.Generator
) -> None:
    queries, keys = _case(rng, q_heads, kv_heads, sizes)
    weights = _weights(rng, q_heads)

    ours = mixture_scores(queries, keys, groups=GROUPS, weights=weights, scaling=SCALING)
    theirs = choice.mixture(queries, keys, [list(rows) for rows in GROUPS], weights, SCALING)

    torch.testing.assert_close(ours, torch.tensor(theirs))
    assert math.isclose(float(ours.sum()), 1.0, rel_tol=1e-5)


@pytest.mark.parametrize(("q_heads", "kv_heads"), [(4, 2), (3, 1)])
def test_published_scores_match_the_definition(
    q_heads: int, kv_heads: int, rng: torch.Generator
) -> None:
    queries, keys = _case(rng, q_heads, kv_heads, (3, 4))

    ours = published_scores(queries, keys, SCALING)

    torch.testing.assert_close(ours, torch.tensor(choice.published(queries, keys, SCALING)))


def test_scores_are_computed_in_float32_from_bfloat16(rng: torch.Generator) -> None:
    queries, keys = _case(rng, 4, 2, (6,))
    rounded = [part.bfloat16() for part in queries], [part.bfloat16() for part in keys]

    scores = published_scores(*rounded, SCALING)

    exact = published_scores(*([p.float() for p in parts] for parts in rounded), SCALING)
    assert scores.dtype == torch.float32
    assert torch.equal(scores, exact)


def test_a_prompt_that_ends_with_the_question_is_scored(rng: torch.Generator) -> None:
    queries, keys = _case(rng, 4, 2, (6,))
    groups = (range(ROWS), range(ROWS, ROWS), range(ROWS - 1, ROWS))

    scores = mixture_scores(queries, keys, groups=groups, weights=_weights(rng, 4), scaling=SCALING)

    assert bool(scores.isfinite().all())


def test_heads_without_weight_are_not_asked(rng: torch.Generator) -> None:
    queries, keys = _case(rng, 4, 2, (6,))
    weights = torch.zeros(LAYERS, 4, len(GROUPS))
    weights[1, 2, 0] = 1

    scores = mixture_scores(queries, keys, groups=GROUPS, weights=weights, scaling=SCALING)

    attention = attention_over_landmarks([queries[0][1]], [keys[0][1]], SCALING)
    torch.testing.assert_close(scores, attention[2, 1:3].mean(dim=0))


@pytest.mark.parametrize(("q_heads", "size"), [(3, HEAD_DIM), (4, HEAD_DIM + 2)])
def test_queries_that_do_not_fit_the_keys_are_refused(q_heads: int, size: int) -> None:
    with pytest.raises(ValueError, match="do not fit keys"):
        attention_over_landmarks(
            [torch.zeros(q_heads, ROWS, size)], [torch.zeros(2, 3, HEAD_DIM)], SCALING
        )


def test_queries_of_the_weighted_layers_alone_give_the_same_scores(rng: torch.Generator) -> None:
    sizes = (3, 4)
    queries = [torch.randn(5, 4, ROWS, HEAD_DIM, generator=rng) for _ in sizes]
    keys = [torch.randn(5, 2, size, HEAD_DIM, generator=rng) for size in sizes]
    weights = torch.rand(5, 4, len(GROUPS), generator=rng)
    weights[[0, 2, 4]] = 0

    layers = weighted_layers(weights)
    few = mixture_scores(
        [asked[layers] for asked in queries], keys,
        groups=GROUPS, weights=weights, scaling=SCALING, layers=layers,
    )  # fmt: skip

    assert layers == [1, 3]
    whole = mixture_scores(queries, keys, groups=GROUPS, weights=weights, scaling=SCALING)
    assert torch.equal(few, whole)
