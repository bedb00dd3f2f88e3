"""Time several ways to do one thing in turns, so that a busy moment meets them all."""

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from acre_rag.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to do a thing.

    Attributes:
        name: What it is called in results.
        run: Does it; this is timed.
        before: Makes ready for it, every time; this is not timed.
    """

    name: str
    run: Callable[[], object]
    before: Callable[[], object] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How long one way took in each round, in seconds.

    Attributes:
        wall: By the clock.
        cpu: Of all threads of this process, which a busy machine does not change.
    """

    wall: tuple[float, ...]
    cpu: tuple[float, ...]


def take_turns(ways: Sequence[Way], rounds: int) -> Mapping[str, Times]:
    """Time every way once a round, in an order that turns; a first round warms up.

    Raises:
        ConfigError: There is no round, or two ways share a name.
    """
    if rounds < 1:
        raise ConfigError(f"rounds is {rounds}; expected 1 or more: raise it")
    names = [way.name for way in ways]
    if len(set(names)) < len(names):
        raise ConfigError(f"found ways called {names}; expected a name for each: rename one")
    wall: dict[str, list[float]] = {name: [] for name in names}
    cpu: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 1):
        first = number % len(ways)
        for way in (*ways[first:], *ways[:first]):
            if way.before is not None:
                way.before()
            by_clock, by_processor = timed(way.run)
            if number:
                wall[way.name].append(by_clock)
                cpu[way.name].append(by_processor)
    return {name: Times(wall=tuple(wall[name]), cpu=tuple(cpu[name])) for name in names}


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Run once: seconds by the clock, and of the processor."""
    gc.collect()
    _wait()
    started, processor = time.perf_counter(), time.process_time()
    run()
    _wait()
    return time.perf_counter() - started, time.process_time() - processor


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
