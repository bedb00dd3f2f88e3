"""Reading a document into a store, against plain prefill of the same tokens."""

import shutil
from collections.abc import Callable

import torch

from acre_rag.bench.figures import Comparison, Findings
from acre_rag.bench.peak import peak_bytes
from acre_rag.bench.rounds import Way, take_turns
from acre_rag.bench.scene import Scene, Subject
from acre_rag.cache import KVBlock
from acre_rag.engine import ACREEngine
from acre_rag.model.prefill import read_window
from acre_rag.model.stock import prefill_plainly

_GOAL = 0.85


def encode(scene: Scene) -> Findings:
    """Measure both; the store is a new directory in every round."""
    comparisons: list[Comparison] = []
    facts: dict[str, float | int | str | None] = {}
    notes: list[str] = []
    for tokens in scene.sizes.tokens:
        scene.say(f"encode: {tokens} tokens")
        store = scene.folder / "encode"
        with scene.opened(store) as engine:
            subject = Subject.made(engine, tokens)
            if len(subject.prompt_ids) > engine.context_tokens:
                notes.append(f"{tokens} tokens: longer than the context, no plain prefill")
                continue
            comparisons.append(_against_plain(scene, engine, subject, facts))
            if engine.reader.has_landmarks:
                comparisons.append(_with_landmarks(scene, engine, subject))
    return Findings(comparisons=tuple(comparisons), facts=facts, notes=tuple(notes))


def _against_plain(
    scene: Scene, engine: ACREEngine, subject: Subject, facts: dict[str, float | int | str | None]
) -> Comparison:
    chunk = engine.config.window_tokens
    times = take_turns(
        [
            Way(
                name="ours",
                run=lambda: engine.ingest(subject.document),
                before=lambda: engine.delete(subject.id),
            ),
            Way(
                name="plain",
                run=lambda: prefill_plainly(scene.local, subject.prompt_ids, chunk),
            ),
        ],
        scene.sizes.rounds,
    )
    (stored,) = engine.documents([subject.id])
    tokens = len(subject.ids)
    engine.delete(subject.id)
    for name, run in (
        ("encoding", lambda: engine.ingest(subject.document)),
        ("plain prefill", lambda: prefill_plainly(scene.local, subject.prompt_ids, chunk)),
    ):
        taken = peak_bytes(run)
        facts[f"{tokens} tokens: peak memory of {name}, MB"] = taken and round(taken / 1e6, 1)
    facts[f"{tokens} tokens: stored bytes a token"] = round(stored.bytes / tokens)
    shutil.rmtree(scene.folder / "encode")
    return Comparison.of_times(
        "encode into a directory",
        f"plain prefill in chunks of {chunk}",
        tokens=tokens,
        ours=times["ours"],
        theirs=times["plain"],
        goal=_GOAL,
        work=tokens,
    )


def _with_landmarks(scene: Scene, engine: ACREEngine, subject: Subject) -> Comparison:
    """Compare the model's work alone, behind the same memory: what landmarks cost."""
    times = take_turns(
        [
            Way(name="landmarks", run=_reading(engine, subject, landmarks=True)),
            Way(name="plain", run=_reading(engine, subject, landmarks=False)),
        ],
        scene.sizes.rounds,
    )
    return Comparison.of_times(
        "read windows with landmarks",
        "the same windows without, behind the same memory",
        tokens=len(subject.ids),
        ours=times["landmarks"],
        theirs=times["plain"],
        goal=_GOAL,
        work=len(subject.ids),
    )


def _reading(engine: ACREEngine, subject: Subject, *, landmarks: bool) -> Callable[[], object]:
    reader, config = engine.reader, engine.config
    ids = torch.tensor(subject.ids, device=reader.local.device)

    def read() -> None:
        known = [reader.prefix]
        for window in ids.split(config.window_tokens):
            with reader.local.lock, torch.inference_mode():
                block = KVBlock.concatenate(known)
                memory = reader.twin.remember(block.keys[:, None], block.values[:, None])
                if landmarks:
                    interval = config.interval_tokens
                    own = read_window(reader.twin, window, memory, interval, landmarks=True).l1
                else:
                    saw = reader.twin.read(reader.twin.embed(window[None]), memory=memory)
                    # As many as landmarks would be: what they hold costs nothing.
                    places = torch.arange(0, len(window), config.interval_tokens)
                    both = KVBlock(saw.keys[:, 0], saw.values[:, 0])
                    own = both.take(places.to(window.device))
                known.append(own)

    return read
