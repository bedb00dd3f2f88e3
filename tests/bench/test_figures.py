"""Ratios, spreads and exponents, beside a dumb reference."""

import json
import math
import statistics

import pytest

from acre_rag.bench.figures import Comparison, Curve, Findings, Spread
from acre_rag.bench.rounds import Times, Way, take_turns
from acre_rag.errors import ConfigError

OURS, THEIRS = (2.0, 4.0, 1.0), (6.0, 8.0, 7.0)


def _comparison(**changes: object) -> Comparison:
    given: dict[str, object] = {
        "what": "first token",
        "against": "full prefill",
        "tokens": 300,
        "ours": OURS,
        "theirs": THEIRS,
    }
    return Comparison(**given | changes)  # type: ignore[arg-type]


def test_a_ratio_is_told_of_each_round_and_then_summed_up() -> None:
    ratios = [THEIRS[n] / OURS[n] for n in range(3)]

    ours = _comparison().ratio

    assert ours == Spread(median=sorted(ratios)[1], low=min(ratios), high=max(ratios))
    assert ours.median != statistics.median(THEIRS) / statistics.median(OURS)


def test_processor_seconds_have_a_ratio_of_their_own() -> None:
    assert _comparison().cpu_ratio is None
    both = _comparison(ours_cpu=(1.0, 1.0, 2.0), theirs_cpu=(3.0, 5.0, 8.0))
    assert both.cpu_ratio == Spread(median=4.0, low=3.0, high=5.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"ours": ()},
        {"ours": (1.0,)},
        {"ours": (), "theirs": ()},
        {"ours_cpu": (1.0,)},
        {"ours": (0.0, 1.0, 1.0)},
        {"theirs": (1.0, -1.0, 1.0)},
    ],
)
def test_values_that_make_no_ratio_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"expected .*measure it again"):
        _comparison(**changes)


@pytest.mark.parametrize("exponent", [-0.5, 0.0, 1.0, 1.7])
def test_the_exponent_of_a_power_is_found(exponent: float) -> None:
    sizes = (100.0, 200.0, 400.0, 1600.0)
    curve = Curve(what="a", of="b", sizes=sizes, seconds=tuple(3 * s**exponent for s in sizes))

    assert math.isclose(curve.exponent, exponent, abs_tol=1e-9)


def test_one_size_has_no_exponent() -> None:
    with pytest.raises(ConfigError, match="measure more sizes"):
        _ = Curve(what="a", of="b", sizes=(1.0,), seconds=(1.0,)).exponent


def test_findings_come_back_from_json_as_they_were() -> None:
    found = Findings(
        comparisons=(_comparison(goal=20.0, work=300), _comparison(unit="bytes")),
        curves=(Curve(what="a", of="b", sizes=(1.0, 2.0), seconds=(3.0, 5.0), why="so"),),
        facts={"tokens": 3, "name": "x", "none": None},
        notes=("left out",),
    )

    assert Findings.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_ways_take_turns_and_the_first_round_does_not_count() -> None:
    done: list[str] = []
    ways = [
        Way(name="a", run=lambda: done.append("a"), before=lambda: done.append("ready")),
        Way(name="b", run=lambda: done.append("b")),
    ]

    times = take_turns(ways, 2)

    assert done == ["ready", "a", "b", "b", "ready", "a", "ready", "a", "b"]
    assert {name: len(own.wall) for name, own in times.items()} == {"a": 2, "b": 2}
    assert all(isinstance(own, Times) and min(own.wall) > 0 for own in times.values())


@pytest.mark.parametrize(
    ("names", "rounds", "words"), [("a", 0, "rounds is 0"), ("aa", 1, "a name for each")]
)
def test_turns_that_cannot_be_taken_are_refused(names: str, rounds: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        take_turns([Way(name=name, run=lambda: None) for name in names], rounds)
