"""Questions at once: from so many threads, and as one batch beside one after another."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from acre_rag.bench.figures import Comparison, Findings
from acre_rag.bench.growth import BUDGET, ask, curve, doubling, median
from acre_rag.bench.rounds import Times, Way, take_turns
from acre_rag.bench.scene import Scene, Subject
from acre_rag.engine import ACREEngine

_GOAL, _GOAL_QUESTIONS = 3.0, 16
_INSTRUCTIONS = "Tell all that the context says, in many sentences."


def at_once(scene: Scene) -> Findings:
    """Grow the number of questions that are put at the same time, by threads and as a batch."""
    tokens = min(scene.sizes.tokens)
    askers = doubling(1, scene.sizes.askers)
    with scene.opened(scene.folder / "at-once") as engine:
        subject = Subject.made(engine, tokens)
        engine.ingest(subject.document)
        found = []
        for count in askers:
            scene.say(f"at once: {count} threads")
            found.append(median(lambda: _threads(engine, subject.id, count), scene.sizes.rounds))  # noqa: B023
        sizes = [*askers, 2 * askers[-1]]
        times = [_batch(scene, engine, subject, count) for count in sizes]
    threads = "a model answers one question at a time: all wait for one another, and none longer"
    batch = "each has its own choice and cache; the model's weights are read once a token for all"
    return Findings(
        comparisons=tuple(
            Comparison.of_times(
                f"answers to {count} questions as a batch",
                "one after another",
                tokens=tokens,
                ours=ours,
                theirs=theirs,
                goal=_GOAL if count == _GOAL_QUESTIONS else None,
            )
            for count, (ours, theirs) in zip(sizes, times, strict=True)
        ),
        curves=(
            curve("all first tokens", "questions at once", askers, found, threads),
            curve(
                "all answers of a batch",
                "questions in a batch",
                sizes,
                [min(ours.wall) for ours, _ in times],
                batch,
            ),
        ),
        facts={"longest answer, tokens": scene.sizes.new_tokens},
    )


def _batch(scene: Scene, engine: ACREEngine, subject: Subject, count: int) -> tuple[Times, Times]:
    """Time questions as a batch, and one after another."""
    scene.say(f"at once: a batch of {count}")
    questions = list(islice(subject.questions, count))
    ids, new = [subject.id], scene.sizes.new_tokens

    def together() -> None:
        engine.ask_all(questions, ids, BUDGET, new, _INSTRUCTIONS)

    def alone() -> None:
        for question in questions:
            engine.ask(question, ids, BUDGET, new, _INSTRUCTIONS)

    ways = [Way(name="batch", run=together), Way(name="loop", run=alone)]
    times = take_turns(ways, scene.sizes.rounds)
    return times["batch"], times["loop"]


def _threads(engine: ACREEngine, document: str, askers: int) -> None:
    ids: Sequence[str] = [document]
    with ThreadPoolExecutor(askers) as pool:
        list(pool.map(lambda _: ask(engine, ids, BUDGET), range(askers)))
