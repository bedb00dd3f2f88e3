"""From a question to the first token of its answer, cold and warm, beside what else there is."""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from acre_rag.answer import Answer
from acre_rag.bench.figures import Comparison, Findings, Spread
from acre_rag.bench.peak import peak_bytes
from acre_rag.bench.plain import ChunksOfText, FullCache, FullPrefill
from acre_rag.bench.rounds import Times, Way, take_turns
from acre_rag.bench.scene import Scene, Subject, fits, forget_pages
from acre_rag.engine import ACREEngine
from acre_rag.errors import ConfigError
from acre_rag.model.location import DEMO_MODEL

_GOALS = {4000: 20.0, 8000: 50.0}
_SECOND = 1.5
_STAGES = ("load", "select", "fetch")


@dataclass(slots=True, kw_only=True)
class Asking:
    """Asks one document from one store, cold, warm, or as a new process would.

    Attributes:
        scene: Model, adapter and settings.
        store: Directory or URL.
        subject: The document, stored there.
        warm: An engine that has asked it before.
        cold: The latest engine that has asked nothing.
        answers: What came back, for each way.
        openings: Seconds that opening an engine took before the first question of it.
    """

    scene: Scene
    store: Path | str
    subject: Subject
    warm: ACREEngine
    cold: ACREEngine | None = None
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    openings: list[float] = field(default_factory=list)

    def ways(self, suffix: str = "") -> list[Way]:
        """Give the three ways; names end with the suffix."""
        return [
            Way(name=f"warm{suffix}", run=lambda: self._ask("warm", self.warm)),
            Way(
                name=f"cold{suffix}",
                run=lambda: self._ask("cold", self.cold or self.warm),
                before=self._forget,
            ),
        ]

    def first_of_a_process(self) -> None:
        """Open an engine and ask, the model's weights being loaded."""
        started = time.perf_counter()
        with self.scene.opened(self.store) as engine:
            self.openings.append(time.perf_counter() - started)
            self._ask("first", engine)

    def ask_warm(self) -> None:
        """Ask once more."""
        self._ask("warm", self.warm)

    def close(self) -> None:
        """Close what was opened."""
        if self.cold is not None:
            self.cold.close()

    def _ask(self, way: str, engine: ACREEngine) -> None:
        question = next(self.subject.questions)
        answer = engine.ask(question, [self.subject.id], max_new_tokens=1)
        self.answers.setdefault(way, []).append(answer)

    def _forget(self) -> None:
        self.close()
        self.cold = self.scene.engine(self.store)
        if isinstance(self.store, Path):
            forget_pages(self.store)


def first_token(scene: Scene) -> Findings:
    """Measure every length that is asked for."""
    return Findings.together([_one_length(scene, tokens) for tokens in scene.sizes.tokens])


def _one_length(scene: Scene, tokens: int) -> Findings:
    scene.say(f"first token: {tokens} tokens")
    store = scene.folder / f"first-{tokens}"
    notes: list[str] = []
    with ExitStack() as stack:
        engine = stack.enter_context(scene.opened(store))
        subject = Subject.made(engine, tokens)
        engine.ingest(subject.document)
        asking = Asking(scene=scene, store=store, subject=subject, warm=engine)
        stack.callback(asking.close)
        ways = [*asking.ways(), Way(name="first of a process", run=asking.first_of_a_process)]
        if scene.redis is None:
            notes.append("no redis-server: nothing was measured over Redis")
        else:
            ways += _over_redis(scene, subject, stack)
        asking.ask_warm()
        cache = None
        if fits(engine, tokens, engine.reader.frame.question_rows(next(subject.questions))):
            cache = FullCache.saved(engine, subject, scene.folder)
            ways += _alternatives(engine, subject, asking, cache, notes)
        else:
            notes.append(f"{tokens} tokens: longer than the context, no full prefill")
        times = take_turns(ways, scene.sizes.rounds)
        comparisons = [*_comparisons(scene, tokens, times)]
        if cache is not None:
            comparisons += _sizes(asking, cache, FullPrefill(engine=engine, subject=subject))
        return Findings(
            comparisons=tuple(comparisons), facts=_stages(asking, tokens), notes=tuple(notes)
        )


def _over_redis(scene: Scene, subject: Subject, stack: ExitStack) -> list[Way]:
    url = str(scene.redis)
    engine = stack.enter_context(scene.opened(url))
    engine.ingest(subject.document)
    stack.callback(engine.delete, subject.id)
    asking = Asking(scene=scene, store=url, subject=subject, warm=engine)
    stack.callback(asking.close)
    return asking.ways(", Redis")


def _alternatives(
    engine: ACREEngine, subject: Subject, asking: Asking, cache: FullCache, notes: list[str]
) -> list[Way]:
    full = FullPrefill(engine=engine, subject=subject)
    ways = [
        Way(name="full prefill", run=full.first_token),
        Way(name="full cache", run=cache.first_token),
        Way(
            name="full cache, cold",
            run=cache.first_token,
            before=lambda: forget_pages(cache.path),
        ),
    ]
    budget = asking.answers["warm"][-1].usage.refilled_tokens
    try:
        text = ChunksOfText.indexed(engine, subject, budget)
    except ConfigError as error:
        notes.append(str(error))
        return ways
    return [*ways, Way(name="text", run=text.first_token)]


def _comparisons(scene: Scene, tokens: int, times: Mapping[str, Times]) -> list[Comparison]:
    """Put ours beside each alternative that was measured."""
    demo = scene.local.name == DEMO_MODEL and scene.local.device.type == "cpu"
    goal = _GOALS.get(tokens) if demo else None
    pairs = [
        ("warm", "full prefill", goal),
        ("cold", "full prefill", goal),
        ("warm, Redis", "full prefill", None),
        ("cold, Redis", "full prefill", None),
        ("warm", "full cache", None),
        ("cold", "full cache, cold", None),
        ("warm", "text", None),
        ("warm", "cold", None),
        ("warm", "first of a process", _SECOND),
    ]
    return [
        Comparison.of_times(
            _WORDS[own],
            _WORDS[other],
            tokens=tokens,
            ours=times[own],
            theirs=times[other],
            goal=aim,
        )
        for own, other, aim in pairs
        if own in times and other in times
    ]


_WORDS = {
    "warm": "first token, directory, warm",
    "cold": "first token, directory, cold",
    "warm, Redis": "first token, Redis, warm",
    "cold, Redis": "first token, Redis, cold",
    "first of a process": "first question of a new engine",
    "full prefill": "full prefill",
    "full cache": "all keys and values from a file",
    "full cache, cold": "all keys and values from a file, cold",
    "text": "prefill of as many tokens of text",
}


def _sizes(asking: Asking, cache: FullCache, full: FullPrefill) -> list[Comparison]:
    """Compare bytes read and peak memory, each measured once."""
    tokens = len(asking.subject.ids)
    found = []
    for way, what in (("warm", "bytes read, warm"), ("cold", "bytes read, cold")):
        read = float(asking.answers[way][-1].usage.bytes_read)
        found.append((what, "all keys and values from a file", read, float(cache.bytes)))
    # Memory that stands between questions counts as this question's.
    asking.warm.reader.local.replays.let_go()
    peaks = [peak_bytes(run) for run in (asking.ask_warm, full.first_token, cache.first_token)]
    ours, *others = peaks
    for name, theirs in zip(("full prefill", "full cache"), others, strict=True):
        if ours and theirs:
            found.append(("peak memory of a question", _WORDS[name], float(ours), float(theirs)))
    return [
        Comparison(
            what=what, against=against, tokens=tokens, unit="bytes", ours=(own,), theirs=(other,)
        )
        for what, against, own, other in found
        if own > 0 and other > 0
    ]


def _stages(asking: Asking, tokens: int) -> dict[str, float | int | str | None]:
    """Say where the time goes, in milliseconds: medians; the first round warms up."""
    facts: dict[str, float | int | str | None] = {}
    for way in ("cold", "warm"):
        answers = asking.answers[way][1:]
        stages = {name: [getattr(answer.seconds, name) for answer in answers] for name in _STAGES}
        stages["splice, rotation and prompt"] = [
            answer.seconds.first_token - sum(getattr(answer.seconds, name) for name in _STAGES)
            for answer in answers
        ]
        for name, values in stages.items():
            facts[f"{tokens} tokens, {way}: {name}, ms"] = round(1e3 * Spread.of(values).median, 1)
    opening = Spread.of(asking.openings[1:]).median
    facts[f"{tokens} tokens, new engine: opening it, ms"] = round(1e3 * opening, 1)
    usage = asking.answers["warm"][-1].usage
    facts[f"{tokens} tokens: landmarks"] = usage.landmarks
    facts[f"{tokens} tokens: refilled"] = usage.refilled_tokens
    return facts
