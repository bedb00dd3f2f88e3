"""What one GPU can do with models of real shapes: the parts of `acre bench`, and some of its own.

Run it from the root of the repository, each part by itself:

    python -m benchmarks.gpu --shape qwen2.5-3b --part encode --tokens 32000 --json FOLDER

Weights are random (`benchmarks/random_models.py`), in bfloat16. Stores lie in the host's memory
(`--folder`, /dev/shm where there is room), so that no disk is measured; Redis is started where
redis-server is installed. Each part becomes FOLDER/SHAPE-TOKENS/PART.json, which
`acre bench report` reads. Windows of 4,096 tokens (`--window`) launch a quarter of the kernels.

    check        the GPU's caches, choices and answers beside the CPU's, on a small model
    profile      launches, waits, memory and the longest operations of each stage
    encode       tokens/s, beside plain prefill, and windows without landmarks; share of peak
    first-token  from host memory and from Redis, beside a whole cache and a full prefill
    peak         a new engine's question: GPU memory beyond the weights, beside all keys and values
    decode       seconds a token behind a refilled cache, beside stock ones
    at-once      batches up to 16, beside one question after another
    million      a document of 1,000,000 tokens, encoded and asked; intervals of 64

Every part of `acre bench` can be named.

Estimates, at 300 TFLOP/s (2 operations a weight and token, 4 a pair of tokens and channel in full
attention), stores written at 1 GB/s, plain prefill in chunks at half of that speed: a full prefill
takes 0.8 s at 32,000 tokens and 6.5 s at 128,000 in Qwen2.5-3B's shape, 2.4 s and 21 s in
Llama-3.1-8B's; stored in int8 a token takes 18 KB and 66 KB. So, with two rounds:

    encode       32,000: 1 min, 2 min;  128,000: 2 min, 6 min
    first-token  32,000: 1 min, 2 min;  128,000: 3 min, 7 min
    peak         seconds more than encoding once: 32,000: 20 s, 30 s;  128,000: 30 s, 1 min
    decode       32,000: 1 min, 2 min
    at-once      32,000, 1 round: 4 min, 4 min (some 25 ms a token, one after another)
    million      2 min (6e15 operations, 20 s; 19 GB to the store)

These are estimates: end a part that takes longer with `timeout`.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import torch

from acre_rag import ACREConfig
from acre_rag.bench.figures import Comparison, Findings
from acre_rag.bench.machine import layer_weights
from acre_rag.bench.parts import PARTS, Measured, measure, measured, write_part
from acre_rag.bench.peak import peak_bytes
from acre_rag.bench.redis_server import running_redis
from acre_rag.bench.report import markdown
from acre_rag.bench.rounds import timed
from acre_rag.bench.scene import Scene, Sizes, Subject
from acre_rag.model.replay import Replays
from benchmarks.gpu_check import check
from benchmarks.gpu_profile import profiled
from benchmarks.random_models import SHAPES, landmark_adapter, random_model

MEMORY = Path("/dev/shm")  # noqa: S108  # a directory of its own is made there
PEAK_TFLOPS = 989.0  # of one H100 SXM, bfloat16, without sparsity
_MILLION_INTERVAL = 64
Facts = dict[str, float | int | str | None]


def main() -> None:
    """Measure one part, write it, and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--part", choices=[*PARTS, *OWN_PARTS], required=True)
    parser.add_argument("--tokens", type=int, help="32,000 by default; 1,000,000 for 'million'")
    parser.add_argument("--interval", type=int, help="16 by default; 64 for 'million'")
    parser.add_argument("--window", type=int, help="tokens of a window: 1,024 by default")
    parser.add_argument("--stored", default="int8")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--askers", type=int, default=8, help="half of the largest batch")
    parser.add_argument("--peak-tflops", type=float, default=PEAK_TFLOPS)
    parser.add_argument("--folder", type=Path, help="where stores are put")
    parser.add_argument(
        "--replays", action="store_true", help="replay captured passes (decision 9)"
    )
    parser.add_argument("--json", type=Path, metavar="FOLDER", required=True)
    options = parser.parse_args()
    million = options.part == "million"
    tokens = options.tokens or (1_000_000 if million else 32_000)
    with ExitStack() as stack:
        made = tempfile.TemporaryDirectory(prefix="acre-gpu-", dir=_room(options.folder))
        folder = Path(stack.enter_context(made))
        redis = None
        if options.part == "first-token":
            redis = stack.enter_context(running_redis(folder / "redis"))
        sizes = Sizes(
            tokens=(tokens,),
            rounds=options.rounds,
            longest=tokens,
            new_tokens=options.new_tokens,
            askers=options.askers,
        )
        interval = options.interval or (_MILLION_INTERVAL if million else 16)
        config = ACREConfig(stored_dtype=options.stored, interval_tokens=interval)
        if options.window:
            config = replace(config, window_tokens=options.window)
        scene = make_scene(options.shape, config, sizes, folder, redis)
        if options.replays:
            replays = Replays(frozenset({scene.local.device.type}))
            scene = replace(scene, local=replace(scene.local, replays=replays))
        found = run_part(options.part, scene, options.peak_tflops)
    named = f"{options.shape}-{tokens}" + (f"-window-{options.window}" if options.window else "")
    write_part(found, options.json / named / f"{options.part}.json")
    sys.stdout.write(markdown([found]))


def make_scene(
    shape: str, config: ACREConfig, sizes: Sizes, folder: Path, redis: str | None
) -> Scene:
    """Make a model of a shape, on the GPU where there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    local = random_model(shape, device, torch.bfloat16)
    return Scene(
        local=local,
        adapter=landmark_adapter(local, config.interval_tokens),
        config=config,
        sizes=sizes,
        folder=folder,
        redis=redis,
        say=_say,
    )


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
    {"check": check, "profile": profiled, "peak": peak, "million": million}
)
"""Parts that only this benchmark has."""


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _room(folder: Path | None) -> Path | None:
    """Find where stores go: as told, else the host's memory where it has room for them."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    enough = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 2**36
    if not enough:
        sys.stderr.write(f"{MEMORY} has less than 64 GiB: stores go to the disk\n")
    return MEMORY if enough else None


if __name__ == "__main__":
    main()
