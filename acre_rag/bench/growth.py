"""How costs grow: with the length of a document, documents asked, and budget."""

import statistics
from collections.abc import Callable, Sequence

from acre_rag.bench.figures import Curve, Findings
from acre_rag.bench.made_text import made_text
from acre_rag.bench.plain import FullPrefill
from acre_rag.bench.rounds import timed
from acre_rag.bench.scene import Scene, Subject, fits
from acre_rag.engine import ACREEngine
from acre_rag.text.document import Document

BUDGET = 256
_SMALL_DOCUMENT = 200


def length(scene: Scene) -> Findings:
    """Grow a document; the budget stays."""
    sizes = spread(1000, scene.sizes.longest)
    seconds: dict[str, list[float]] = {"encode": [], "first token": [], "full prefill": []}
    facts: dict[str, float | int | str | None] = {}
    for tokens in sizes:
        scene.say(f"length: {tokens} tokens")
        with scene.opened(scene.folder / f"length-{tokens}") as engine:
            subject = Subject.made(engine, tokens)
            seconds["encode"].append(timed(lambda: engine.ingest(subject.document))[0])  # noqa: B023
            seconds["first token"].append(
                median(lambda: ask(engine, [subject.id], BUDGET), scene.sizes.rounds)  # noqa: B023
            )
            answer = engine.ask(next(subject.questions), refill_tokens=BUDGET, max_new_tokens=1)
            facts[f"{tokens} tokens: bytes read"] = answer.usage.bytes_read
            if fits(engine, tokens, engine.reader.frame.question_rows(next(subject.questions))):
                full = FullPrefill(engine=engine, subject=subject)
                seconds["full prefill"].append(timed(full.first_token)[0])
    why = {
        "encode": "a window attends to itself and to landmarks, a sixteenth of what came before",
        "first token": "only landmarks grow with the document; the model's own work for the "
        "question stays",
        "full prefill": "every token goes through the model for every question, and attends to "
        "all before it",
    }
    return Findings(
        curves=tuple(
            curve(name, "tokens of the document", sizes, values, why[name])
            for name, values in seconds.items()
            if len(values) > 1
        ),
        facts=facts,
    )


def documents(scene: Scene) -> Findings:
    """Grow the number of small documents that one question asks."""
    sizes = [n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if n <= scene.sizes.documents]
    found = []
    with scene.opened(scene.folder / "documents") as engine:
        stored = 0
        for count in sizes:
            scene.say(f"documents: {count}")
            engine.ingest(_small(engine, number) for number in range(stored, count))
            stored = count
            found.append(median(lambda: ask(engine, None, BUDGET), scene.sizes.rounds))
    why = (
        "each document adds a manifest to read and its landmarks to score; the model's own work "
        "for the question stays"
    )
    return Findings(curves=(curve("first token", "documents asked", sizes, found, why),))


def budget(scene: Scene) -> Findings:
    """Grow the budget of one question."""
    tokens = max(scene.sizes.tokens)
    sizes = doubling(64, tokens // 2)
    scene.say(f"budget: up to {sizes[-1]} of {tokens} tokens")
    with scene.opened(scene.folder / "budget") as engine:
        subject = Subject.made(engine, tokens)
        engine.ingest(subject.document)
        found = [
            median(lambda n=n: ask(engine, [subject.id], n), scene.sizes.rounds)  # type: ignore[misc]
            for n in sizes
        ]
    why = "what is refilled is read, decoded, rotated and attended to; all else stays"
    return Findings(curves=(curve("first token", "refilled tokens", sizes, found, why),))


def doubling(first: int, last: int) -> list[int]:
    """List `first`, twice that, and so on, up to `last`; always two sizes or more."""
    sizes = [first, 2 * first]
    while sizes[-1] * 2 <= last:
        sizes.append(sizes[-1] * 2)
    return sizes


def spread(first: int, last: int) -> list[int]:
    """List few sizes from `first` to `last`: doubled, or, where that is far, each four times more.

    Far is more than 128 times; `last` is then among them, if the one before is half of it at most.
    """
    if last <= 128 * first:
        return doubling(first, last)
    sizes = [first]
    while sizes[-1] * 4 <= last:
        sizes.append(sizes[-1] * 4)
    return sizes if last < 2 * sizes[-1] else [*sizes, last]


def ask(engine: ACREEngine, ids: Sequence[str] | None, refill_tokens: int) -> None:
    """Ask for one token of an answer; `None` asks all documents."""
    engine.ask("Which valve was closed?", ids, refill_tokens=refill_tokens, max_new_tokens=1)


def _small(engine: ACREEngine, number: int) -> Document:
    text = made_text(engine.reader.frame, _SMALL_DOCUMENT, seed=number)
    return Document(id=f"small-{number}", text=text)


def median(run: Callable[[], object], rounds: int) -> float:
    """Median seconds of some runs; one before them warms up."""
    run()
    return statistics.median(timed(run)[0] for _ in range(rounds))


def curve(what: str, of: str, sizes: Sequence[int], seconds: Sequence[float], why: str) -> Curve:
    """Put sizes and their seconds together."""
    return Curve(
        what=what,
        of=of,
        sizes=tuple(map(float, sizes[: len(seconds)])),
        seconds=tuple(seconds),
        why=why,
    )
