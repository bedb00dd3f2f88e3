import random

import pytest

from acre_rag.cost import fitted


def _terms(sizes: list[int]) -> list[tuple[float, float, float]]:
    return [(1.0, float(size), float(size**2)) for size in sizes]


@pytest.mark.parametrize(
    "planted",
    [(0.02, 3e-4, 2e-8), (0.0, 5e-6, 0.0), (0.3, 0.0, 1e-7), (0.05, 0.0, 0.0), (0.0, 0.0, 1e-9)],
)
def test_planted_constants_are_found(planted: tuple[float, float, float]) -> None:
    terms = _terms([16, 64, 256, 1024])
    seconds = [sum(a * b for a, b in zip(planted, row, strict=True)) for row in terms]

    assert fitted(terms, seconds) == pytest.approx(planted, rel=1e-6, abs=1e-12)


def test_noisy_runs_are_met_within_their_noise_at_every_size() -> None:
    planted = (0.02, 3e-4, 2e-8)
    noise = random.Random(3)  # noqa: S311  # for a test
    terms = _terms([16, 32, 64, 128, 256, 512, 1024, 4096])
    exact = [sum(a * b for a, b in zip(planted, row, strict=True)) for row in terms]
    found = fitted(terms, [value * noise.uniform(0.97, 1.03) for value in exact])

    met = [sum(a * b for a, b in zip(found, row, strict=True)) for row in terms]
    assert met == pytest.approx(exact, rel=0.05)


def test_no_coefficient_is_negative_even_where_that_would_fit_best() -> None:
    found = fitted(_terms([10, 20, 40]), [1.0, 1.5, 1.6])

    assert min(found) >= 0
    assert fitted([(1.0, 1.0), (1.0, 2.0)], [2.0, 1.0])[1] == 0


def test_one_run_is_explained_by_one_term() -> None:
    found = fitted([(1.0, 8.0)], [4.0])

    assert found[0] + 8 * found[1] == pytest.approx(4)


@pytest.mark.parametrize(("terms", "seconds"), [([], []), ([(1.0,)], [0.0]), ([(1.0,)], [1, 2])])
def test_runs_that_tell_nothing_are_refused(
    terms: list[tuple[float]], seconds: list[float]
) -> None:
    with pytest.raises(ValueError, match="measure again"):
        fitted(terms, seconds)
