"""How fast a selection comes back from Redis, beside plain GETs of the same values.

A server of its own is started on a free port. Rounds take turns, so that what else the machine
does meets all of them alike; each ratio is the median over rounds of one round's two times.

    python benchmarks/redis_read.py --tokens 8192 --rounds 15 > result.json
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import redis
import torch
import xxhash

from acre_rag.bench.provenance import provenance
from acre_rag.bench.redis_server import running_redis
from acre_rag.cache import KVBlock, StoredBlock
from acre_rag.errors import DamagedCacheError
from acre_rag.store import CacheArchive, CacheStore, Manifest, open_store
from acre_rag.store.address import document_digest

SPACE, VERSION, DOCUMENT = "5bace0" * 4, "0123456789abcdef" * 2, "benchmark"
INTERVAL, WINDOW = 16, 1024
# Layers, key heads and head size of models, and how many of their intervals share a value.
MODELS = {
    "SmolLM2-135M": (30, 3, 64, 1),
    "Qwen2.5-0.5B": (24, 2, 64, 1),
    "Qwen2.5-1.5B": (28, 2, 128, 1),
    "Llama-3.2-1B": (16, 8, 64, 1),
    "Llama-3.1-8B": (32, 8, 128, 1),
}


def main() -> None:
    """Measure one shape of model, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", choices=MODELS, default="Qwen2.5-1.5B")
    parser.add_argument("--tokens", type=int, default=8192, help="of the document")
    parser.add_argument("--chosen", type=int, default=2048, help="tokens of one selection")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    manifest = manifest_of(MODELS[options.model], options.tokens)
    blocks = options.chosen // (INTERVAL * manifest.intervals_per_block)
    with tempfile.TemporaryDirectory() as folder, running_redis(Path(folder)) as url:
        if url is None:
            sys.exit("found no redis-server; expected one on this machine: apt-get install it")
        fill(url, manifest)
        fill(f"{folder}/directory", manifest)
        with redis.Redis.from_url(url) as client:
            server_version = client.info("server")["redis_version"]
        seconds, value_bytes = measure(url, f"{folder}/directory", manifest, blocks, options.rounds)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    selected = blocks * value_bytes
    result = {
        **provenance(),
        "redis_server": server_version,
        "model": options.model,
        "value_bytes": value_bytes,
        "values": blocks,
        "rounds": options.rounds,
        "gigabytes_per_second": {
            name: round(selected / time_ / 1e9, 3) for name, time_ in medians.items()
        },
        "speed_beside_plain_gets": {
            name: ratio(seconds["plain"], seconds[name])
            for name in ("fresh", "reused", "fresh_unchecked", "reused_unchecked")
        },
        "share_of_load_that_is_checking": {
            "redis": ratio(seconds["checking"], seconds["fresh"]),
            "redis_reused": ratio(seconds["checking"], seconds["reused"]),
            "directory": ratio(seconds["checking"], seconds["directory"]),
        },
        "time_beside_reading_and_then_restoring": {
            "redis": ratio(seconds["together"], both(seconds, "fresh", "restoring")),
        },
    }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


def measure(
    url: str, directory: str, manifest: Manifest, blocks: int, rounds: int
) -> tuple[dict[str, list[float]], int]:
    """Read another selection in each round, in every way there is; wall seconds of each."""
    stores = {
        "fresh": open_store(url),
        "reused": open_store(f"{url}?buffers=reused"),
        "directory": open_store(directory),
    }
    client = redis.Redis.from_url(url)
    start = f"acre:{{{SPACE}.{document_digest(DOCUMENT)}}}:{VERSION}:"
    names = [name for name in manifest.block_names if name.startswith("l2:")]
    seconds: dict[str, list[float]] = {}
    generator = torch.Generator().manual_seed(0)
    for _ in range(rounds + 2):  # the first two warm up
        places = torch.randperm(len(names), generator=generator)[:blocks].sort().values
        chosen = [names[place] for place in places.tolist()]
        ways: dict[str, Callable[[], Sequence[Any]]] = {
            "plain": getter(client, [start + name for name in chosen]),
            **{f"{n}_unchecked": raw_reader(s, chosen) for n, s in stores.items()},
            **{name: reader(store, manifest, chosen) for name, store in stores.items()},
        }
        for way, read in ways.items():
            seconds.setdefault(way, []).append(timed(read))
        seconds.setdefault("checking", []).append(timed(digester(ways["plain"]())))
        seconds.setdefault("restoring", []).append(timed(restorer(ways["fresh"]())))
        together = restoring_reader(stores["fresh"], manifest, chosen)
        seconds.setdefault("together", []).append(timed(together))
    value_bytes = int(client.strlen(f"{start}l2:0"))
    client.close()
    for store in stores.values():
        store.close()
    return {way: times[2:] for way, times in seconds.items()}, value_bytes


def getter(client: redis.Redis, keys: Sequence[str]) -> Callable[[], Sequence[Any]]:
    """Read values with the plain client, into fresh bytes."""
    return lambda: [client.get(key) for key in keys]


def digester(values: Sequence[Any]) -> Callable[[], Sequence[object]]:
    """Do what checking takes, and no more."""
    return lambda: [xxhash.xxh3_128_digest(value) for value in values]


def reader(
    store: CacheStore, manifest: Manifest, chosen: Sequence[str]
) -> Callable[[], Sequence[object]]:
    """Read blocks as a question does: checked, and as tensors."""
    archive = CacheArchive(store, SPACE)
    return lambda: list(archive.read_blocks(manifest, chosen))


def restorer(blocks: Sequence[Any]) -> Callable[[], Sequence[object]]:
    """Restore blocks that were read."""
    return lambda: [restored(block) for block in blocks]


def restored(block: StoredBlock | DamagedCacheError) -> KVBlock:
    """Turn a block into what a model that computes in float32 asks for."""
    if isinstance(block, DamagedCacheError):
        raise block
    return block.to(dtype=torch.float32, device="cpu")


def restoring_reader(
    store: CacheStore, manifest: Manifest, chosen: Sequence[str]
) -> Callable[[], Sequence[object]]:
    """Restore blocks as they come, as a question does; the next are on their way meanwhile."""
    archive = CacheArchive(store, SPACE)

    def read() -> Sequence[object]:
        with closing(archive.read_blocks(manifest, chosen)) as blocks:
            return [restored(block) for block in blocks]

    return read


def raw_reader(store: CacheStore, chosen: Sequence[str]) -> Callable[[], Sequence[object]]:
    """Read the bytes of blocks, and trust them."""
    return lambda: list(store.read_each(SPACE, DOCUMENT, VERSION, chosen))


def timed(read: Callable[[], Sequence[object]]) -> float:
    """Take the wall time of one call; what it read lives until its end."""
    started = time.perf_counter()
    read()
    return time.perf_counter() - started


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Compare times round by round."""
    pairs = zip(ours, theirs, strict=True)
    return round(statistics.median(first / second for first, second in pairs), 3)


def both(seconds: dict[str, list[float]], first: str, second: str) -> list[float]:
    """Add up two times of each round."""
    return [sum(pair) for pair in zip(seconds[first], seconds[second], strict=True)]


def manifest_of(shape: tuple[int, int, int, int], tokens: int) -> Manifest:
    """Describe a document of a model's shape; its text does not matter."""
    layers, kv_heads, head_dim, intervals_per_block = shape
    intervals = -(-tokens // INTERVAL)
    return Manifest(
        space=SPACE,
        version=VERSION,
        document_id=DOCUMENT,
        text="x" * tokens,
        metadata={},
        model="benchmark",
        method="landmarks",
        tokens=tokens,
        interval_tokens=INTERVAL,
        window_tokens=WINDOW,
        segment_tokens=16 * WINDOW,
        landmarks_per_block=WINDOW // INTERVAL,
        intervals_per_block=intervals_per_block,
        interval_starts=tuple(range(0, tokens, INTERVAL)),
        interval_ends=tuple(min(start + INTERVAL, tokens) for start in range(0, tokens, INTERVAL)),
        layers=layers,
        kv_heads=kv_heads,
        head_dim=head_dim,
        dtype="bfloat16",
        payload_bytes=(tokens + intervals) * 4 * layers * kv_heads * head_dim,
        created="2026-01-31T12:00:00+00:00",
    )


def fill(location: str, manifest: Manifest) -> None:
    """Store random keys and values for every block."""
    generator = torch.Generator().manual_seed(0)
    store = open_store(location)
    with CacheArchive(store, SPACE).writer(DOCUMENT, VERSION) as writer:
        for name in manifest.block_names:
            shape = manifest.block_shape(name)
            keys = torch.randint(0, 2**15, shape, dtype=torch.int16, generator=generator)
            block = keys.view(torch.bfloat16)
            writer.write_block(name, KVBlock(block, block.clone()))
        writer.publish(manifest)
    store.close()


if __name__ == "__main__":
    main()
