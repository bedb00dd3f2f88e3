"""The policy `auto` beside each plan, over a grid of lengths: how often does it take the best?"""

import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import get_args

from acre_rag.bench.figures import Comparison, Findings
from acre_rag.bench.rounds import Times, Way, take_turns
from acre_rag.bench.scene import Scene, Subject, fits
from acre_rag.config import Plan, Policy
from acre_rag.engine import ACREEngine

_SHORTEST = 16
_GOAL = round(1 / 1.1, 2)  # never more than a tenth slower


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """One store, asked by an engine for each policy.

    Attributes:
        engines: One for each policy, all over the same store.
        taken: What `auto` did, for each question in turn.
    """

    engines: Mapping[Policy, ACREEngine]
    taken: list[Plan] = field(default_factory=list)

    def ask(self, policy: Policy, subject: Subject) -> None:
        """Ask for one token of an answer."""
        question = next(subject.questions)
        answer = self.engines[policy].ask(question, [subject.id], max_new_tokens=1)
        if policy == "auto":
            self.taken.append(answer.plan)


def policy(scene: Scene) -> Findings:
    """Measure the longest length that is asked for, half of it, and so on, down to 16 tokens.

    Landmarks stay in memory behind the first question, as in an engine that is kept. Constants of
    this machine are measured anew at the start, which is not timed.
    """
    sizes = _halving(max(scene.sizes.tokens))
    with ExitStack() as stack:
        grid = Grid(engines={name: _engine(scene, name, stack) for name in _policies()})
        subjects = [Subject.made(grid.engines["auto"], size, f"made-{size}") for size in sizes]
        grid.engines["auto"].ingest(subject.document for subject in subjects)
        scene.say("policy: measuring this machine")
        grid.engines["auto"].explain(None, [subjects[-1].id], measure=True)
        found = [_one_length(scene, grid, subject) for subject in subjects]
    together = Findings.together(found)
    worst = max(1 / one.ratio.median for one in together.comparisons)
    facts = {"auto's time over the best plan's, worst": round(worst, 3), **together.facts}
    return replace(together, facts=facts)


def _halving(longest: int) -> list[int]:
    """List lengths from the shortest to the longest."""
    sizes = [longest]
    while sizes[0] // 2 >= _SHORTEST:
        sizes.insert(0, sizes[0] // 2)
    return sizes


def _policies() -> Iterator[Policy]:
    yield "auto"
    yield from get_args(Plan)


def _engine(scene: Scene, name: Policy, stack: ExitStack) -> ACREEngine:
    own = replace(scene, config=replace(scene.config, policy=name))
    return stack.enter_context(own.opened(scene.folder / "policy"))


def _one_length(scene: Scene, grid: Grid, subject: Subject) -> Findings:
    tokens = len(subject.ids)
    scene.say(f"policy: {tokens} tokens")
    auto = grid.engines["auto"]
    possible = list(get_args(Plan))
    notes = []
    if not fits(auto, tokens, auto.reader.frame.question_rows(next(subject.questions))):
        possible.remove("prefill")
        notes.append(f"{tokens} tokens: longer than the context, no plain prefill")
    grid.taken.clear()
    times = take_turns(
        [Way(name=name, run=_asking(grid, name, subject)) for name in ("auto", *possible)],
        scene.sizes.rounds,
    )
    predicted = {plan.plan: plan.seconds for plan in auto.explain(None, [subject.id]).plans}
    taken = grid.taken[1:]  # the first round warms up
    medians = {plan: statistics.median(times[plan].wall) for plan in possible}
    best = min(possible, key=lambda plan: medians[plan])
    facts: dict[str, float | int | str | None] = {
        f"{tokens} tokens: auto took": ", ".join(dict.fromkeys(taken)),
        f"{tokens} tokens: plan taken over the best, worst": round(
            max(medians[plan] for plan in taken) / medians[best], 3
        ),
    }
    for plan in possible:
        facts[f"{tokens} tokens: {plan}, ms (predicted)"] = (
            f"{1e3 * medians[plan]:,.0f} ({1e3 * predicted[plan]:,.0f})"
        )
    return Findings(
        comparisons=(_against_best(tokens, best, times),), facts=facts, notes=tuple(notes)
    )


def _asking(grid: Grid, name: Policy, subject: Subject) -> Callable[[], None]:
    return lambda: grid.ask(name, subject)


def _against_best(tokens: int, best: Plan, times: Mapping[str, Times]) -> Comparison:
    return Comparison.of_times(
        "first token, auto",
        f"the best plan here, {best}",
        tokens=tokens,
        ours=times["auto"],
        theirs=times[best],
        goal=_GOAL,
    )
