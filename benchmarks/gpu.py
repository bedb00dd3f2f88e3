"""What one GPU can do with models of real shapes: the parts of `acre bench`, and some of its own.

Run it from the root of the repository; `benchmarks/gpu_all.sh` runs all that a card should tell:

    python -m benchmarks.gpu --shape qwen2.5-3b --part first-token peak --tokens 32000 128000 \
        --json FOLDER

Weights are random (`benchmarks/random_models.py`), in bfloat16. Stores lie in the host's memory
(`--folder`, /dev/shm where there is room), so that no disk is measured; Redis is started where
redis-server is installed. Each part becomes FOLDER/SHAPE-TOKENS/PART.json as soon as it is over,
which `acre bench report` reads; one that fails is told with its traceback, and the next one begins.
Windows of 4,096 tokens (`--window`) launch a quarter of the kernels.

    check        the GPU's caches, choices and answers beside the CPU's, on a small model
    replays      replayed passes beside the model's own: tokens, memory, threads (`--dtype float32`)
    profile      launches, waits, memory and the longest operations of each stage
    encode       tokens/s, beside plain prefill, and windows without landmarks; share of peak
    first-token  from host memory and from Redis, beside a whole cache and a full prefill
    peak         a new engine's question: GPU memory beyond the weights, beside all keys and values
    decode       seconds a token behind a refilled cache, beside stock ones
    at-once      batches up to 16, beside one question after another
    million      a document of 1,000,000 tokens, encoded and asked; intervals of 64

Every part of `acre bench` can be named; `length` grows up to the longest of `--tokens`.

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
import signal
import sys
import tempfile
import traceback
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch

from acre_rag import ACREConfig
from acre_rag.bench.parts import PARTS, Measured, write_part
from acre_rag.bench.redis_server import running_redis
from acre_rag.bench.report import markdown
from acre_rag.bench.scene import Scene, Sizes
from acre_rag.model.replay import Replays
from benchmarks.gpu_parts import OWN_PARTS, run_part
from benchmarks.random_models import SHAPES, landmark_adapter, random_model

MEMORY = Path("/dev/shm")  # noqa: S108  # a directory of its own is made there
PEAK_TFLOPS = 989.0  # of one H100 SXM, bfloat16, without sparsity
_MILLION_INTERVAL = 64
_ENOUGH = 48 * 2**30


def main() -> None:
    """Measure parts one after another, write and print each; exit with 1 if one failed."""
    options = _parser().parse_args()
    million = options.part == ["million"]
    interval = options.interval or (_MILLION_INTERVAL if million else 16)
    config = ACREConfig(stored_dtype=options.stored, interval_tokens=interval)
    if options.window:
        config = replace(config, window_tokens=options.window)
    dtype = getattr(torch, options.dtype)
    scene = make_scene(options.shape, config, Sizes(), Path(), None, dtype)
    devices = frozenset({scene.local.device.type}) if options.replays else frozenset()
    scene = replace(scene, local=replace(scene.local, replays=Replays(devices)))
    failed = False
    for tokens in options.tokens or [1_000_000 if million else 32_000]:
        for part in options.part:
            try:
                found = _measured(part, tokens, scene, options)
            except Exception:  # noqa: BLE001  # told, and on to the next
                sys.stderr.write(f"FAILED: {part}, {tokens} tokens\n{traceback.format_exc()}")
                failed = True
                continue
            write_part(found, options.json / _folder(tokens, options) / f"{part}.json")
            sys.stdout.write(markdown([found]))
            sys.stdout.flush()
            failed = failed or bool(found.findings.facts.get("failed"))
    sys.exit(failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--part", choices=[*PARTS, *OWN_PARTS], nargs="+", required=True)
    parser.add_argument(
        "--tokens", type=int, nargs="+", help="32,000 by default; 1,000,000 for 'million' alone"
    )
    parser.add_argument("--interval", type=int, help="16 by default; 64 for 'million' alone")
    parser.add_argument("--window", type=int, help="tokens of a window: 1,024 by default")
    parser.add_argument("--stored", default="int8")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--askers", type=int, default=8, help="half of the largest batch")
    parser.add_argument("--documents", type=int, default=200, help="most documents of a question")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--peak-tflops", type=float, default=PEAK_TFLOPS)
    parser.add_argument("--folder", type=Path, help="where stores are put")
    parser.add_argument(
        "--replays", action="store_true", help="replay captured passes (decision 9)"
    )
    parser.add_argument("--json", type=Path, metavar="FOLDER", required=True)
    return parser


def _measured(part: str, tokens: int, scene: Scene, options: argparse.Namespace) -> Measured:
    """Measure one part in a folder, and with a server, of its own."""
    with ExitStack() as stack:
        made = tempfile.TemporaryDirectory(prefix="acre-gpu-", dir=_room(options.folder))
        folder = Path(stack.enter_context(made))
        redis = None
        if part == "first-token":
            redis = stack.enter_context(running_redis(folder / "redis"))
        sizes = Sizes(
            tokens=(tokens,),
            rounds=options.rounds,
            longest=tokens,
            new_tokens=options.new_tokens,
            askers=options.askers,
            documents=options.documents,
        )
        found = run_part(
            part, replace(scene, sizes=sizes, folder=folder, redis=redis), options.peak_tflops
        )
    if not options.replays:
        return found
    facts = dict(found.findings.facts) | _replayed(scene)
    scene.local.replays.let_go()
    return replace(found, findings=replace(found.findings, facts=facts))


def _replayed(scene: Scene) -> dict[str, float | int | str | None]:
    """Tell whether passes were replayed, or given up."""
    replays = scene.local.replays
    kept = replays.may_replay(scene.local.device)
    return {"passes captured": replays.captured, "replays": "kept" if kept else "given up"}


def _folder(tokens: int, options: argparse.Namespace) -> str:
    """Name a folder by what was measured, where it departs from the usual."""
    window = f"-window-{options.window}" if options.window else ""
    return f"{options.shape}-{tokens}{window}" + ("-replays" if options.replays else "")


def make_scene(
    shape: str,
    config: ACREConfig,
    sizes: Sizes,
    folder: Path,
    redis: str | None,
    dtype: torch.dtype = torch.bfloat16,
) -> Scene:
    """Make a model of a shape, on the GPU where there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    local = random_model(shape, device, dtype)
    return Scene(
        local=local,
        adapter=landmark_adapter(local, config.interval_tokens),
        config=config,
        sizes=sizes,
        folder=folder,
        redis=redis,
        say=_say,
    )


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _room(folder: Path | None) -> Path | None:
    """Find where stores go: as told, else the host's memory where it has room for them."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    enough = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > _ENOUGH
    if not enough:
        sys.stderr.write(f"{MEMORY} has less than 48 GiB: stores go to the disk\n")
    return MEMORY if enough else None


if __name__ == "__main__":
    # Whoever ends it, as `timeout` does, leaves no stores and no server behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    main()
