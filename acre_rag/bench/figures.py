"""What was measured: comparisons with a named alternative, and curves with their exponents."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from acre_rag.bench.rounds import Times
from acre_rag.errors import ConfigError

Unit = Literal["s", "bytes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A median and the range that it comes from."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> "Spread":
        """Sum values up.

        Raises:
            ConfigError: There is none.
        """
        if not values:
            raise ConfigError("found no value to sum up; expected one or more: measure a round")
        return Spread(median=statistics.median(values), low=min(values), high=max(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Ours beside a named alternative, round by round; less is better in both.

    Attributes:
        what: What was measured of ours.
        against: The alternative.
        tokens: Tokens of the document.
        unit: Of `ours` and `theirs`.
        ours: One value a round.
        theirs: One value for each of the same rounds.
        ours_cpu: Processor seconds; empty where they mean nothing.
        theirs_cpu: Processor seconds; empty where they mean nothing.
        goal: Ratio that was aimed at; `None` where none was.
        work: Tokens that both went through; `None` where a rate means nothing.
    """

    what: str
    against: str
    tokens: int
    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    ours_cpu: tuple[float, ...] = ()
    theirs_cpu: tuple[float, ...] = ()
    unit: Unit = "s"
    goal: float | None = None
    work: int | None = None

    def __post_init__(self) -> None:
        sizes = [len(self.ours), len(self.theirs)]
        if not sizes[0] or len(set(sizes)) > 1 or len(self.ours_cpu) != len(self.theirs_cpu):
            raise ConfigError(
                f"{self.what!r} against {self.against!r} has {sizes[0]} values of ours and "
                f"{sizes[1]} of theirs; expected as many, and one or more: measure it again"
            )
        if not all(value > 0 for value in (*self.ours, *self.theirs)):
            raise ConfigError(
                f"{self.what!r} against {self.against!r} has a value of 0 or less; expected each "
                "above 0: measure it again"
            )

    @staticmethod
    def of_times(
        what: str,
        against: str,
        *,
        tokens: int,
        ours: Times,
        theirs: Times,
        goal: float | None = None,
        work: int | None = None,
    ) -> "Comparison":
        """Compare the times of the same rounds."""
        return Comparison(
            what=what,
            against=against,
            tokens=tokens,
            ours=ours.wall,
            theirs=theirs.wall,
            ours_cpu=ours.cpu,
            theirs_cpu=theirs.cpu,
            goal=goal,
            work=work,
        )

    @property
    def ratio(self) -> Spread:
        """How many times less ours takes, a ratio for each round."""
        return _ratio(self.ours, self.theirs)

    @property
    def cpu_ratio(self) -> Spread | None:
        """The same of processor seconds; `None` where they were not taken."""
        return _ratio(self.ours_cpu, self.theirs_cpu) if self.ours_cpu else None

    def to_json(self) -> dict[str, Any]:
        """Turn into what is written: all values, and what follows from them for whoever reads."""
        cpu = self.cpu_ratio
        return asdict(self) | {"ratio": asdict(self.ratio), "cpu_ratio": cpu and asdict(cpu)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """How a cost grows with a size.

    Attributes:
        what: What was measured.
        of: The size, in words.
        sizes: Each size, rising.
        seconds: Median seconds at each.
        why: A sentence that explains the exponent.
    """

    what: str
    of: str
    sizes: tuple[float, ...]
    seconds: tuple[float, ...]
    why: str = ""

    @property
    def exponent(self) -> float:
        """Fit `seconds = c * size ** exponent` by least squares of logarithms.

        Raises:
            ConfigError: There are fewer than two sizes.
        """
        if len(set(self.sizes)) < 2 or len(self.sizes) != len(self.seconds):
            raise ConfigError(
                f"the curve {self.what!r} has {len(self.sizes)} sizes and {len(self.seconds)} "
                "times; expected two sizes or more, with a time each: measure more sizes"
            )
        slope, _ = statistics.linear_regression(
            [math.log(size) for size in self.sizes], [math.log(time) for time in self.seconds]
        )
        return slope

    def to_json(self) -> dict[str, Any]:
        """Turn into what is written, the exponent with it."""
        return asdict(self) | {"exponent": self.exponent}


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What one part found.

    Attributes:
        comparisons: Beside named alternatives.
        curves: How costs grow.
        facts: Numbers and words that stand for themselves.
        notes: What was left out, and why.
    """

    comparisons: tuple[Comparison, ...] = ()
    curves: tuple[Curve, ...] = ()
    facts: Mapping[str, float | int | str | None] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @staticmethod
    def together(found: Sequence["Findings"]) -> "Findings":
        """Put the findings of several lengths behind one another; what is said twice, once."""
        return Findings(
            comparisons=tuple(one for own in found for one in own.comparisons),
            curves=tuple(one for own in found for one in own.curves),
            facts={name: value for own in found for name, value in own.facts.items()},
            notes=tuple(dict.fromkeys(note for own in found for note in own.notes)),
        )

    def to_json(self) -> dict[str, Any]:
        """Turn into what is written."""
        return {
            "comparisons": [one.to_json() for one in self.comparisons],
            "curves": [one.to_json() for one in self.curves],
            "facts": dict(self.facts),
            "notes": list(self.notes),
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Findings":
        """Read back what `to_json` made; what follows from the values is worked out anew."""
        return Findings(
            comparisons=tuple(_read(Comparison, one) for one in value["comparisons"]),
            curves=tuple(_read(Curve, one) for one in value["curves"]),
            facts=value["facts"],
            notes=tuple(value["notes"]),
        )


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    return Spread.of([other / own for own, other in zip(ours, theirs, strict=True)])


def _read(kind: type[Any], value: Mapping[str, Any]) -> Any:  # noqa: ANN401  # of that kind
    given = {name: value[name] for name in kind.__dataclass_fields__}
    return kind(**{n: tuple(v) if isinstance(v, list) else v for n, v in given.items()})
