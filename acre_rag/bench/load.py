"""Several askers at the same time, for minutes: errors, waits, and memory."""

import statistics
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from acre_rag.bench.figures import Comparison, Findings
from acre_rag.bench.peak import resident_bytes
from acre_rag.bench.scene import Scene, Subject
from acre_rag.engine import ACREEngine

_NEW_TOKENS = 8
_BUDGET = 256
_SAMPLES = 200


@dataclass(slots=True, kw_only=True)
class Course:
    """What happened while many asked.

    Attributes:
        waits: Seconds of each answer, for each asker.
        errors: What went wrong.
        memory: Bytes of this process, sampled evenly.
    """

    waits: list[list[float]]
    errors: list[str] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)


def load(scene: Scene) -> Findings:
    """Let one asker, then many, ask as fast as they are answered."""
    tokens, askers = min(scene.sizes.tokens), scene.sizes.askers
    with scene.opened(scene.folder / "load") as engine:
        subject = Subject.made(engine, tokens)
        engine.ingest(subject.document)
        scene.say(f"load: one asker, then {askers} for {scene.sizes.seconds:.0f} s")
        alone = keep_asking(engine, subject.id, 1, scene.sizes.seconds / 10)
        together = keep_asking(engine, subject.id, askers, scene.sizes.seconds)
    waits = sorted(wait for own in together.waits for wait in own)
    medians = [statistics.median(own) for own in together.waits if own]
    quarter = max(len(together.memory) // 4, 1)
    early, late = together.memory[quarter : 2 * quarter], together.memory[-quarter:]
    facts: dict[str, float | int | str | None] = {
        "askers": askers,
        "seconds": scene.sizes.seconds,
        "answers": len(waits),
        "errors": len(together.errors) + len(alone.errors),
        "wait, median, s": round(statistics.median(waits), 3),
        "wait, 95 of 100, s": round(waits[int(0.95 * (len(waits) - 1))], 3),
        "wait, longest, s": round(waits[-1], 3),
        "median wait of the slowest asker over the fastest's": round(
            max(medians) / min(medians), 3
        ),
        "most answers of an asker over fewest": round(
            max(map(len, together.waits)) / max(min(map(len, together.waits)), 1), 3
        ),
    }
    if early and late:
        grown = statistics.median(late) - statistics.median(early)
        facts["memory, last quarter less second, MB"] = round(grown / 1e6, 1)
        minutes = scene.sizes.seconds / _SAMPLES / 60
        facts["memory, slope behind the first quarter, MB a minute"] = round(
            slope(together.memory[quarter:]) / minutes / 1e6, 2
        )
    own, other = _seconds_an_answer(together), _seconds_an_answer(alone)
    return Findings(
        comparisons=(
            Comparison(
                what=f"seconds an answer, {askers} askers",
                against="one asker",
                tokens=tokens,
                ours=(own,),
                theirs=(other,),
            ),
        ),
        facts=facts,
        notes=tuple(dict.fromkeys(together.errors + alone.errors)),
    )


def keep_asking(engine: ACREEngine, document: str, askers: int, seconds: float) -> Course:
    """Ask from so many threads until the time is over; each asks once at least."""
    course = Course(waits=[[] for _ in range(askers)])
    until = time.perf_counter() + seconds
    over = threading.Event()

    def ask(own: list[float]) -> None:
        while not own or time.perf_counter() < until:
            started = time.perf_counter()
            try:
                engine.ask(
                    "Which valve was closed?",
                    [document],
                    refill_tokens=_BUDGET,
                    max_new_tokens=_NEW_TOKENS,
                )
            except Exception as error:  # noqa: BLE001  # counted: that there is none is the question
                course.errors.append(f"{type(error).__name__}: {error}")
            own.append(time.perf_counter() - started)

    def sample() -> None:
        while not over.wait(seconds / _SAMPLES):
            now = resident_bytes()
            if now is not None:
                course.memory.append(now)

    sampler = threading.Thread(target=sample, name="acre-bench-memory")
    sampler.start()
    try:
        with ThreadPoolExecutor(askers) as pool:
            list(pool.map(ask, course.waits))
    finally:
        over.set()
        sampler.join()
    return course


def slope(values: Sequence[float]) -> float:
    """Fit a line to evenly sampled values: how much does each add? 0 where it has one value."""
    if len(values) < 2:
        return 0.0
    return statistics.linear_regression(range(len(values)), values).slope


def _seconds_an_answer(course: Course) -> float:
    """Seconds that pass from one answer to the next, whoever asked."""
    busiest = max(sum(own) for own in course.waits)
    return busiest / sum(map(len, course.waits))
