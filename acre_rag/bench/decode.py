"""Tokens after the first: over a refilled cache, beside stock `generate` over a plain one."""

import time
from collections.abc import Callable

from acre_rag.bench.figures import Comparison, Findings
from acre_rag.bench.rounds import Way, take_turns
from acre_rag.bench.scene import Scene, Subject
from acre_rag.engine import ACREEngine
from acre_rag.model.stock import copied, gaps, generate_plainly, prefill_plainly

_INSTRUCTIONS = "Tell all that the context says, in many sentences."


def decode(scene: Scene) -> Findings:
    """Measure seconds a token over caches of the same length, and over the whole document's."""
    return Findings.together([_one_length(scene, tokens) for tokens in scene.sizes.tokens])


def _one_length(scene: Scene, tokens: int) -> Findings:
    scene.say(f"decode: {tokens} tokens")
    store, new = scene.folder / f"decode-{tokens}", scene.sizes.new_tokens
    with scene.opened(store) as engine:
        subject = Subject.made(engine, tokens)
        engine.ingest(subject.document)
        ours: list[float] = []
        length = _ask(engine, subject, new, ours)
        ours.clear()
        plain = {f"stock generate over {length} tokens": length}
        whole = len(subject.prompt_ids)
        rows = engine.reader.frame.question_rows(next(subject.questions), _INSTRUCTIONS)
        notes = []
        if whole + len(rows.ids) + new <= engine.context_tokens:
            plain[f"stock generate over all {whole} tokens"] = whole
        else:
            notes.append(f"{tokens} tokens: longer than the context, no cache of all of it")
        theirs: dict[str, list[float]] = {name: [] for name in plain}
        ways = [Way(name="ours", run=lambda: _ask(engine, subject, new, ours))]
        for name, size in plain.items():
            generating = _plainly(engine, subject.prompt_ids[:size], rows.ids, new, theirs[name])
            ways.append(Way(name=name, run=generating))
        take_turns(ways, scene.sizes.rounds)
    return Findings(
        comparisons=tuple(
            Comparison(
                what="decode, a token",
                against=name,
                tokens=tokens,
                ours=tuple(ours[1:]),  # the first round warms up
                theirs=tuple(theirs[name][1:]),
                goal=1.0 if size == length else None,
                work=1,
            )
            for name, size in plain.items()
        ),
        facts={f"{tokens} tokens: length of the refilled cache": length},
        notes=tuple(notes),
    )


def _ask(engine: ACREEngine, subject: Subject, new_tokens: int, spent: list[float]) -> int:
    """Answer at length, noting seconds a token after the first; how long was its cache?"""
    question = next(subject.questions)
    stream = engine.stream(
        question, [subject.id], max_new_tokens=new_tokens, instructions=_INSTRUCTIONS
    )
    answer = stream.finish()
    seconds, usage = answer.seconds, answer.usage
    spent.append((seconds.total - seconds.first_token) / max(stream.new_tokens - 1, 1))
    return engine.reader.prefix.tokens + usage.landmarks + usage.refilled_tokens


def _plainly(
    engine: ACREEngine, before: list[int], ids: list[int], new_tokens: int, spent: list[float]
) -> Callable[[], None]:
    """Make a run of stock `generate` over a ready cache, noting seconds a token."""
    local = engine.reader.local
    cache = prefill_plainly(local, before, engine.config.window_tokens)

    def generate() -> None:
        moments: list[float] = []
        generate_plainly(
            local, ids, copied(cache), new_tokens, lambda: moments.append(time.perf_counter())
        )
        between = gaps(moments)
        # An answer of one token has no second one to time; its end stands in.
        spent.append(sum(between) / len(between) if between else time.perf_counter() - moments[0])

    return generate
