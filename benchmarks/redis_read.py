"""How fast a selection comes back from Redis, beside plain GETs of the same values.

A server of its own is started on a free port (`redis-server` is looked for in PATH). Ways to read
take turns, so that what else the machine does meets all of them alike; each ratio is the median
over rounds of one round's two times.

    python -m benchmarks.redis_read --model Qwen2.5-1.5B --json redis-read.json

Where there is a GPU, `--device cuda` adds the same ways up to tensors in its memory, and memory
that is pinned.

What checking costs is the time of a load that is checked, less the time of the same load without
any check: no look at the header, the place or the checksum. A file that is mapped is not read
before somebody looks: from the directory either load copies all tensors once.
"""

import argparse
import json
import statistics
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import redis
import torch

from acre_rag.bench.provenance import provenance
from acre_rag.bench.redis_server import running_redis
from acre_rag.bench.rounds import Times, Way, take_turns
from acre_rag.cache.stored import FORMS
from acre_rag.store import Manifest, open_store
from benchmarks.stored_document import INTERVAL, MODELS, fill, manifest_of, raw_names
from benchmarks.ways_to_read import (
    START,
    Read,
    as_read,
    check_alike,
    checked,
    copied_once,
    digest,
    moved,
    moved_bytes,
    plain,
    sound,
    trusted,
    turn_after,
    turns,
)

LOADS = ("fresh", "reused", "directory")


def main() -> None:
    """Measure one shape of model, print a table, and write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=MODELS, default="Qwen2.5-1.5B")
    parser.add_argument("--stored", choices=FORMS, default="bfloat16", help="form of the values")
    parser.add_argument("--tokens", type=int, default=8192, help="of the document")
    parser.add_argument("--chosen", type=int, default=2048, help="tokens of one selection")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu", help="where tensors are wanted in the end")
    parser.add_argument("--json", type=Path, help="file for the results")
    options = parser.parse_args()
    torch.set_num_threads(1)  # a checksum has one too, and the server needs a core of its own
    manifest = manifest_of(MODELS[options.model], options.tokens, options.stored)
    blocks = options.chosen // (INTERVAL * manifest.intervals_per_block)
    result = {**provenance(), "model": options.model, "stored": options.stored}
    result |= {"device": options.device}
    result |= measured(manifest, blocks, options.rounds, options.device)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write("\n".join(table(result)) + "\n")


def measured(manifest: Manifest, blocks: int, rounds: int, device: str) -> dict[str, object]:
    """Store a document, read selections of it in every way there is, and compare."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        url = stack.enter_context(running_redis(Path(folder)))
        if url is None:
            sys.exit("found no redis-server; expected one in PATH: install it")
        fill(url, manifest)
        fill(f"{folder}/directory", manifest)
        client = stack.enter_context(redis.Redis.from_url(url))
        ways = ways_to_read(stack, client, url, f"{folder}/directory", manifest, blocks, device)
        times = take_turns(ways, rounds)
        value_bytes = int(client.strlen(f"{START}l2:0"))
        server = str(client.info("server")["redis_version"])
    selected = {"redis_server": server, "value_bytes": value_bytes, "values": blocks}
    return {**selected, "rounds": rounds, **figures(times, value_bytes * blocks)}


def ways_to_read(
    stack: ExitStack,
    client: "redis.Redis",
    url: str,
    directory: str,
    manifest: Manifest,
    blocks: int,
    device: str,
) -> list[Way]:
    """Open a store for each kind of buffers, and put together what is timed."""
    kinds = ("fresh", "reused", *(["pinned"] if torch.cuda.is_available() else []))
    stores = {kind: open_store(f"{url}?buffers={kind}") for kind in kinds}
    stores["directory"] = open_store(directory)
    for store in stores.values():
        stack.callback(store.close)
    uses = dict.fromkeys(stores, as_read) | {"directory": copied_once(manifest)}
    reads: dict[str, Read] = {"plain": plain(client)}
    for kind in LOADS:
        reads[f"{kind}_unchecked"] = trusted(stores[kind], manifest, uses[kind])
        reads[kind] = checked(stores[kind], manifest, uses[kind])
    in_float32 = moved(torch.float32, "cpu")
    reads["together"] = checked(stores["fresh"], manifest, in_float32)
    if device != "cpu":
        # The plain client's bytes are copied from, never written to.
        warnings.filterwarnings("ignore", "The given buffer is not writable")
        there, here = moved(torch.bfloat16, device), moved(torch.bfloat16, "cpu")
        reads["plain_to_device"] = plain(client, moved_bytes(device))
        right = checked(stores["directory"], manifest, here)
        for kind, store in stores.items():
            reads[f"{kind}_to_device"] = checked(store, manifest, there)
            check_alike(reads[f"{kind}_to_device"], right, raw_names(manifest)[:blocks])
    return [
        *turns(manifest, blocks, reads),
        turn_after("digests", manifest, blocks, reads["plain"], digest),
        turn_after("restoring", manifest, blocks, reads["fresh"], lambda b: in_float32(sound(b))),
    ]


def figures(times: Mapping[str, Times], selected: int) -> dict[str, object]:
    """Compare ways, round by round."""
    wall = {name: taken.wall for name, taken in times.items()}
    ours = [name for name in wall if name in ("fresh", "reused")]
    on_device = [name for name in wall if name.endswith("_to_device")]
    both = [sum(pair) for pair in zip(wall["fresh"], wall["restoring"], strict=True)]
    return {
        "gigabytes_per_second": {
            name: round(selected / statistics.median(seconds) / 1e9, 3)
            for name, seconds in wall.items()
        },
        "speed_beside_plain_gets": {name: ratio(wall["plain"], wall[name]) for name in ours},
        "speed_to_device_beside_plain_gets": {
            name.removesuffix("_to_device"): ratio(wall["plain_to_device"], wall[name])
            for name in on_device
        },
        "share_of_load_that_is_checking": {
            name: less(wall[name], wall[f"{name}_unchecked"]) for name in LOADS
        },
        "share_by_processor_time": {
            name: less(times[name].cpu, times[f"{name}_unchecked"].cpu) for name in LOADS
        },
        "digests_alone_beside_load": {name: ratio(wall["digests"], wall[name]) for name in LOADS},
        "time_beside_reading_and_then_restoring": ratio(wall["together"], both),
    }


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Compare times round by round."""
    pairs = zip(ours, theirs, strict=True)
    return round(statistics.median(first / second for first, second in pairs), 3)


def less(whole: Sequence[float], rest: Sequence[float]) -> float:
    """Tell the share of a time that is missing from another, round by round."""
    return round(1 - ratio(rest, whole), 3)


def table(result: Mapping[str, object]) -> list[str]:
    """Put what was found into a table of Markdown."""
    what = f"{result['model']}, {result['values']} values of {result['value_bytes']} bytes"
    rows = [f"| {what} | |", "| --- | --- |"]
    for name, found in result.items():
        if isinstance(found, dict):
            words = name.replace("_", " ")
            rows += [
                f"| {words}: {one.replace('_', ' ')} | {figure} |" for one, figure in found.items()
            ]
    return rows


if __name__ == "__main__":
    main()
