"""Windowed prefill with landmarks, against plain windowed prefill of the same tokens.

Run it from the root of the repository:

    python -m benchmarks.prefill [--model NAME] [--tokens 4096] [--rank 64] [--repeats 3]

Each window is read in both ways one after the other, by the same reading twin, behind the same
memory (prefix and earlier landmarks); which comes first alternates. The landmark projections are
random, as their values cost nothing. Prints JSON.
"""

import argparse
import json
import statistics
import sys
import time

import torch

from acre_rag import ACREConfig, LocalModel
from acre_rag.cache import KVBlock
from acre_rag.model.landmarks import LandmarkAdapter, LowRankProjection
from acre_rag.model.prefill import read_window
from acre_rag.model.reader import DocumentReader
from acre_rag.model.support import ModelShape


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model")
    parser.add_argument("--dtype")
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    local = LocalModel.load(options.model, dtype=options.dtype)
    shape = DocumentReader(local, None, ACREConfig()).twin.shape
    reader = DocumentReader(local, random_adapter(shape, options.rank), ACREConfig())
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(local.model.config.vocab_size, (options.tokens,), generator=generator)
    with torch.inference_mode():
        runs = [measure(reader, ids, turn) for turn in range(options.repeats + 1)]
    seconds = {name: [run[name] for run in runs[1:]] for name in runs[0]}  # the first warms up
    median = {name: statistics.median(values) for name, values in seconds.items()}
    result = {
        "model": local.name,
        "dtype": str(local.model.dtype).removeprefix("torch."),
        "device": str(local.device),
        "threads": torch.get_num_threads(),
        "tokens": options.tokens,
        "window_tokens": reader.config.window_tokens,
        "interval_tokens": reader.config.interval_tokens,
        "rank": options.rank,
        "tokens_per_second": {
            "landmarks": options.tokens / median["landmarks"],
            "plain": options.tokens / median["plain"],
        },
        "seconds": seconds,
        "ratio": median["landmarks"] / median["plain"],
        "cpu_ratio": median["landmarks_cpu"] / median["plain_cpu"],
    }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


def random_adapter(shape: ModelShape, rank: int) -> LandmarkAdapter:
    """Make low-rank landmark projections of random values."""
    widths = {"q": shape.q_heads, "k": shape.kv_heads, "v": shape.kv_heads}
    return LandmarkAdapter(
        embedding=torch.randn(shape.hidden) * 0.02,
        projections=[
            {
                name: LowRankProjection(
                    torch.randn(rank, shape.hidden) * 0.02,
                    torch.randn(heads * shape.head_dim, rank) * 0.02,
                )
                for name, heads in widths.items()
            }
            for _ in range(shape.layers)
        ],
        selection=None,
        interval_tokens=ACREConfig().interval_tokens,
    )


def measure(reader: DocumentReader, ids: torch.Tensor, turn: int) -> dict[str, float]:
    """Read every window of a document in both ways; wall and processor seconds of each."""
    twin, config = reader.twin, reader.config
    spent = dict.fromkeys(("landmarks", "plain", "landmarks_cpu", "plain_cpu"), 0.0)
    known = [reader.prefix]
    windows = ids.to(reader.local.device).split(config.window_tokens)
    for index, window in enumerate(windows):
        block = KVBlock.concatenate(known)
        memory = twin.remember(block.keys[:, None], block.values[:, None])
        for name in sorted(("landmarks", "plain"), reverse=bool((index + turn) % 2)):
            wall, processor = time.perf_counter(), time.process_time()
            if name == "plain":
                twin.read(twin.embed(window[None]), memory=memory)
            else:
                read = read_window(twin, window, memory, config.interval_tokens, landmarks=True)
                known.append(read.l1)
            if reader.local.device.type == "cuda":
                torch.cuda.synchronize()
            spent[name] += time.perf_counter() - wall
            spent[f"{name}_cpu"] += time.process_time() - processor
    return spent


if __name__ == "__main__":
    main()
