"""Parts of `benchmarks/gpu.py` beside those of `acre bench`, and the share of a card's peak."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from acre_rag.bench.figures import Comparison, Findings
from acre_rag.bench.machine import layer_weights
from acre_rag.bench.parts import Measured, measure, measured
from acre_rag.bench.peak import peak_bytes
from acre_rag.bench.rounds import timed
from acre_rag.bench.scene import Scene, Subject
from benchmarks.gpu_check import check
from benchmarks.gpu_profile import profiled
from benchmarks.gpu_replays import replays

Facts = dict[str, float | int | str | None]


def run_part(name: str, scene: Scene, peak_tflops: float) -> Measured:
    """Measure one part, of `acre bench` or of this benchmark."""
    if name in OWN_PARTS:
        return measured(name, scene, lambda scene: Findings(facts=OWN_PARTS[name](scene)))
    found = measure(name, scene)
    if name != "encode":
        return found
    facts = dict(found.findings.facts) | _shares(scene, found.findings, peak_tflops)
    return replace(found, findings=replace(found.findings, facts=facts))


def window_flops(scene: Scene) -> float:
    """Count the operations that a raw token takes where it is read in windows.

    Its landmark's share is counted, the landmark projections are not, nor is the last product.
    """
    config, shape = scene.config, scene.local.model.config
    rows = 1 + 1 / config.interval_tokens
    window = config.window_tokens * rows
    # On average half of a window's rows, and half of a segment's landmarks, come before.
    before = (window + config.segment_tokens / config.interval_tokens) / 2
    head_dim = getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
    width = int(shape.num_attention_heads * head_dim)
    return rows * (2 * layer_weights(scene) + 4 * before * width * int(shape.num_hidden_layers))


def _shares(scene: Scene, found: Findings, peak_tflops: float) -> Facts:
    """Say which share of the card's peak each way of encoding reaches."""
    operations = window_flops(scene)

    def share(one: Comparison) -> float:
        return operations * one.tokens / min(one.ours) / (peak_tflops * 1e12)

    named = {f"{one.tokens} tokens: {one.what}": one for one in found.comparisons}
    facts: Facts = {f"{what}, share of peak": round(share(one), 4) for what, one in named.items()}
    return facts | {
        "operations a token, GFLOP": round(operations / 1e9, 3),
        "peak, TFLOP/s": peak_tflops,
    }


def peak(scene: Scene) -> Facts:
    """Measure the memory of the first question of a new engine, its landmarks included."""
    facts: Facts = {}
    for tokens in scene.sizes.tokens:
        store = scene.folder / f"peak-{tokens}"
        with scene.opened(store) as engine:
            subject = Subject.made(engine, tokens)
            engine.ingest(subject.document)
            shape = engine.reader.twin.shape
            itemsize = engine.reader.prefix.keys.dtype.itemsize

        def ask() -> None:
            # Memory that stands between questions counts as this question's.
            fresh = replace(scene.local, replays=scene.local.replays.afresh())
            with replace(scene, local=fresh).opened(store) as new:  # noqa: B023
                new.ask(next(subject.questions), [subject.id], max_new_tokens=1)  # noqa: B023

        # What is made once for a process is not a question's; nor is the one comparison.
        with scene.opened(store) as engine:
            engine.ask(next(subject.questions), [subject.id], max_new_tokens=8)
        scene.local.replays.let_go()
        ask()
        ours = peak_bytes(ask)
        whole = 2 * shape.layers * shape.kv_heads * tokens * shape.head_dim * itemsize
        facts[f"{tokens} tokens: peak memory of a question, MB"] = ours and round(ours / 1e6, 1)
        facts[f"{tokens} tokens: all keys and values, MB"] = round(whole / 1e6, 1)
        facts[f"{tokens} tokens: share"] = ours and round(ours / whole, 4)
    return facts


def million(scene: Scene) -> Facts:
    """Encode one long document and ask it: seconds, bytes, and where a question's time goes."""
    (tokens,) = scene.sizes.tokens
    facts: Facts = {"interval tokens": scene.config.interval_tokens}
    with scene.opened(scene.folder / "million") as engine:
        scene.say("million: making the text")
        subject = Subject.made(engine, tokens)
        scene.say("million: encoding")
        spent: list[float] = []
        taken = peak_bytes(lambda: spent.append(timed(lambda: engine.ingest(subject.document))[0]))
        facts["encode, s"] = round(spent[0], 2)
        facts["encode, tokens/s"] = round(tokens / spent[0])
        facts["encode, peak memory beyond the weights, MB"] = taken and round(taken / 1e6)
        (stored,) = engine.documents([subject.id])
        facts["stored, GB"] = round(stored.bytes / 1e9, 3)
    with scene.opened(scene.folder / "million") as engine:
        for name in ("cold", *(f"warm {number}" for number in range(1, scene.sizes.rounds + 1))):
            scene.say(f"million: asking, {name}")
            answer = engine.ask(next(subject.questions), [subject.id], max_new_tokens=8)
            seconds, usage = answer.seconds, answer.usage
            for stage in ("load", "select", "fetch", "first_token", "total"):
                facts[f"{name}: {stage}, ms"] = round(1e3 * getattr(seconds, stage), 1)
            facts[f"{name}: read, MB"] = round(usage.bytes_read / 1e6, 1)
        facts |= {"landmarks": usage.landmarks, "refilled": usage.refilled_tokens}
        # Memory that stands between questions counts as this question's.
        engine.reader.local.replays.let_go()
        last = peak_bytes(lambda: engine.ask(next(subject.questions), max_new_tokens=1))
        facts["warm question, peak memory, MB"] = last and round(last / 1e6)
    return facts


OWN_PARTS: Mapping[str, Callable[[Scene], Facts]] = MappingProxyType(
    {"check": check, "replays": replays, "profile": profiled, "peak": peak, "million": million}
)
"""Parts that only this benchmark has."""
