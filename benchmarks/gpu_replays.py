"""Do replayed passes give what the model's own passes give, whatever comes between?

One engine replays and one does not, over one store and one model. Each check goes through to its
end whatever it finds; what failed is printed with its traceback. On a GPU even float32 is rounded
otherwise by other kernels: one answer in hundreds may take the other of two tokens that are as
likely, every time that it is asked.
"""

import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch

from acre_rag.bench.rounds import timed
from acre_rag.bench.scene import Scene, Subject
from acre_rag.engine import ACREEngine
from acre_rag.engine.question import Questioner
from acre_rag.model.decode import Watch, generate_greedily, rotate_into_cache
from acre_rag.model.replay import Replays
from acre_rag.request import Request

Facts = dict[str, float | int | str | None]

_NEW = 16
_BUDGETS = (None, 0, 64, 1000)
_QUESTIONS = (
    "Why?",
    "Which valve was closed before the storm, and by whom?",
    *("What did the crew count in winter, " + "and what after nine, " * n + "?" for n in (9, 40)),
)
_GROWN_MB = {"allocated": 64.0, "reserved": 512.0}


@dataclass(frozen=True, slots=True)
class _Pair:
    """An engine that replays, one that does not, and what both are asked."""

    ours: ACREEngine
    theirs: ACREEngine
    documents: tuple[str, ...]
    facts: Facts

    @property
    def replays(self) -> Replays:
        return self.ours.reader.local.replays


def replays(scene: Scene) -> Facts:
    """Hold replayed answers to the model's own; `failed` counts the checks that did not pass."""
    device = scene.local.device
    facts: Facts = {"device": device.type, "failed": 0}
    ours = replace(scene.local, replays=Replays(frozenset({device.type})))
    theirs = replace(scene.local, replays=Replays(frozenset()))
    store = scene.folder / "replays"
    with (
        replace(scene, local=ours).opened(store) as one,
        replace(scene, local=theirs).opened(store) as other,
    ):
        sizes = (*scene.sizes.tokens, min(scene.sizes.tokens) // 4)
        made = [Subject.made(other, size, f"of-{size}") for size in sizes]
        other.ingest([subject.document for subject in made])
        pair = _Pair(one, other, tuple(subject.id for subject in made), facts)
        for name, run in _CHECKS.items():
            scene.say(f"replays: {name}")
            _checked(name, pair, run)
        facts["captured"] = ours.replays.captured
        if not ours.replays.may_replay(device):
            _failed("replays were given up", facts, "see the warnings above")
        _speeds(pair)
    return facts


def _checked(name: str, pair: _Pair, run: Callable[[_Pair], None]) -> None:
    try:
        run(pair)
        pair.facts[name] = "passed"
    except Exception as error:  # noqa: BLE001  # told, counted, and on to the next
        traceback.print_exc(file=sys.stderr)
        _failed(name, pair.facts, f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
    for kind, taken in _memory().items():
        pair.facts[f"{name}: memory {kind}, MB"] = round(taken / 1e6, 1)


def _memory() -> dict[str, int]:
    """Tell the bytes that are taken by now; nothing without a GPU."""
    if not torch.cuda.is_available():
        return {}
    return {
        "allocated": torch.cuda.memory_allocated(),
        "reserved": torch.cuda.memory_reserved(),
    }


def _failed(name: str, facts: Facts, why: str) -> None:
    facts["failed"] = int(facts["failed"] or 0) + 1
    facts[name] = f"FAILED: {why}"
    sys.stderr.write(f"FAILED: {name}: {why}\n")


def _tokens(engine: ACREEngine, question: str, ids: Sequence[str], budget: int | None) -> list[int]:
    """Answer as a stream does, in a thread of its own: prompt and tokens."""
    request = Request(
        question=question, documents=tuple(ids), refill_tokens=budget, max_new_tokens=_NEW
    )
    questioner: Questioner = engine._questioner
    local, twin = engine.reader.local, engine.reader.twin
    asked = questioner.ask(request)
    block = questioner.refill(asked, local.replays.room).cache
    watch = Watch(threading.Event(), lambda: None)

    def run() -> list[int]:
        with local.answering():
            cache = None if block is None else rotate_into_cache(local, twin, block)
            made = generate_greedily(local, asked.ids, cache, _NEW, watch)
        told: list[int] = made[0].tolist()
        return told

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


def _same(what: str, ours: Sequence[int], theirs: Sequence[int]) -> None:
    if list(ours) != list(theirs):
        pairs = enumerate(zip(ours, theirs, strict=False))
        place = next((n for n, (a, b) in pairs if a != b), min(len(ours), len(theirs)))
        raise ValueError(
            f"{what}: token {place} of {len(theirs)} is another one; expected equal tokens"
        )


def _lengths(pair: _Pair) -> None:
    """Ask questions of several lengths, with several budgets, twice, smaller memory first."""
    failures: list[str] = []
    for document in (pair.documents[-1:], pair.documents[:1], pair.documents):
        for question in _QUESTIONS:
            for budget in _BUDGETS:
                theirs = _tokens(pair.theirs, question, document, budget)
                for time in ("first", "again"):
                    ours = _tokens(pair.ours, question, document, budget)
                    what = f"{document}, {len(question)} characters, budget {budget}, {time}"
                    try:
                        _same(what, ours, theirs)
                    except ValueError as error:
                        failures.append(str(error))
    pair.facts["answers of several lengths that differ"] = len(failures)
    if failures:
        raise ValueError("; ".join(failures[:3]))


def _let_go(pair: _Pair) -> None:
    """Let captures go and make them again, many times."""
    question, ids = _QUESTIONS[1], pair.documents[:1]
    theirs = _tokens(pair.theirs, question, ids, None)
    taken: list[dict[str, int]] = []
    for number in range(12):
        pair.replays.let_go()
        _same(f"after letting go {number} times", _tokens(pair.ours, question, ids, None), theirs)
        taken.append(_memory())
    _check_grown("letting go", pair, taken)


def _captured_again(pair: _Pair) -> None:
    """Capture for answer after answer with memory of its own, as batches do."""
    questions = list(_QUESTIONS) * 2
    taken: list[dict[str, int]] = []
    theirs = [a.text for a in pair.theirs.ask_all(questions, pair.documents[:1], 256, _NEW)]
    for _ in range(6):
        ours = [a.text for a in pair.ours.ask_all(questions, pair.documents[:1], 256, _NEW)]
        if ours != theirs:
            raise ValueError("answers of a batch differ; expected equal ones")
        taken.append(_memory())
    _check_grown("batches", pair, taken)


def _check_grown(what: str, pair: _Pair, taken: Sequence[Mapping[str, int]]) -> None:
    """Compare the last time with the second: the first makes what is kept."""
    for kind, last in taken[-1].items():
        grown = (last - taken[1][kind]) / 1e6
        pair.facts[f"{what}: {kind} grew by, MB"] = round(grown, 1)
        if grown > _GROWN_MB[kind]:
            raise ValueError(
                f"memory that is {kind} grew by {grown:.0f} MB; expected {_GROWN_MB[kind]:.0f} at "
                "most"
            )


def _threads(pair: _Pair) -> None:
    """Ask from two threads, and from four, over and over."""
    asked = [(question, budget) for question in _QUESTIONS[:3] for budget in _BUDGETS]
    ids = pair.documents[:1]
    expected = [pair.theirs.ask(q, ids, budget, _NEW).text for q, budget in asked]
    for count in (2, 4):
        with ThreadPoolExecutor(count) as pool:
            found = list(pool.map(lambda one: pair.ours.ask(one[0], ids, one[1], _NEW).text, asked))
        if found != expected:
            raise ValueError(f"answers to {count} threads differ; expected equal ones")


def _streams(pair: _Pair) -> None:
    """Ask while an answer has begun, and drop one that has."""
    ids = pair.documents[:1]
    expected = {q: pair.theirs.ask(q, ids, None, _NEW).text for q in _QUESTIONS[:2]}
    one, other = _QUESTIONS[:2]
    begun = pair.ours.stream(one, ids, max_new_tokens=_NEW)
    next(iter(begun), None)
    meanwhile = pair.ours.ask(other, ids, max_new_tokens=_NEW).text
    dropped = pair.ours.stream(other, ids, max_new_tokens=_NEW)
    next(iter(dropped), None)
    dropped.close()
    del dropped
    found = {one: begun.finish().text, other: meanwhile}
    if found != expected or pair.ours.ask(one, ids, max_new_tokens=_NEW).text != expected[one]:
        raise ValueError("answers side by side differ; expected equal ones")


def _while_reading(pair: _Pair) -> None:
    """Capture while another thread reads a document into the store."""
    ids = pair.documents[-1:]
    expected = _tokens(pair.theirs, _QUESTIONS[1], ids, None)
    read = Subject.made(pair.theirs, 6 * pair.ours.config.window_tokens, "read-meanwhile")
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(pair.theirs.ingest, read.document)
        asked = 0
        while not reading.done() or not asked:
            pair.replays.let_go()
            _same("while reading", _tokens(pair.ours, _QUESTIONS[1], ids, None), expected)
            asked += 1
        reading.result()
    pair.facts["questions while a document was read"] = asked
    pair.theirs.delete(read.id)


_CHECKS: dict[str, Callable[[_Pair], None]] = {
    "several lengths": _lengths,
    "let go and captured again": _let_go,
    "captured for batches": _captured_again,
    "threads": _threads,
    "streams side by side": _streams,
    "captured while reading": _while_reading,
}


def _speeds(pair: _Pair) -> None:
    """Time an answer's first token, and a token after it, with and without."""
    for name, engine in (("replayed", pair.ours), ("not replayed", pair.theirs)):
        one, many = (_seconds(engine, pair.documents[:1], new) for new in (1, _NEW))
        pair.facts[f"{name}: first token, ms"] = round(1e3 * one, 2)
        pair.facts[f"{name}: a token, ms"] = round(1e3 * (many - one) / (_NEW - 1), 2)


def _seconds(engine: ACREEngine, ids: Sequence[str], new_tokens: int) -> float:
    """Time the quickest of some answers; one before them warms up."""

    def ask() -> None:
        engine.ask(_QUESTIONS[1], ids, None, new_tokens)

    ask()
    return min(timed(ask)[0] for _ in range(3))
