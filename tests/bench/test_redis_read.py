"""`benchmarks/redis_read.py` over a few values: every way is timed, and compared."""

from pathlib import Path

import pytest
import torch

from acre_rag.cache.stored import parts_of
from acre_rag.errors import DamagedCacheError
from acre_rag.store import open_store
from benchmarks.redis_read import measured
from benchmarks.stored_document import fill, manifest_of, raw_names
from benchmarks.ways_to_read import as_read, check_alike, checked, moved, trusted
from tests.store.servers import found_binary

SHAPE = (2, 1, 8, 1)
HERE = moved(torch.float32, "cpu")


@pytest.mark.redis
@pytest.mark.parametrize("stored", ["bfloat16", "int8"])
def test_every_way_is_timed_and_compared(stored: str) -> None:
    found_binary()
    found = measured(manifest_of(SHAPE, 256, stored), blocks=4, rounds=2, device="cpu:0")

    speeds = found["gigabytes_per_second"]
    assert isinstance(speeds, dict)
    assert min(speeds.values()) >= 0
    beside = found["speed_to_device_beside_plain_gets"]
    assert isinstance(beside, dict)
    assert {"fresh", "reused", "directory"} <= set(beside)
    assert {"pinned"} <= set(beside) or not torch.cuda.is_available()


@pytest.mark.parametrize("stored", ["bfloat16", "int8"])
def test_a_load_without_checks_gives_the_same_tensors_and_looks_at_nothing(
    tmp_path: Path, stored: str
) -> None:
    manifest = manifest_of(SHAPE, 256, stored)
    fill(str(tmp_path), manifest)
    store = open_store(tmp_path)
    names = raw_names(manifest)[:3]

    blocks = trusted(store, manifest, HERE)(names)
    read = checked(store, manifest, as_read)(names), trusted(store, manifest, as_read)(names)
    for ours, theirs in zip(*read, strict=True):
        for part, other in zip(parts_of(ours), parts_of(theirs), strict=True):
            assert part.dtype == other.dtype
            assert torch.equal(part, other)

    check_alike(checked(store, manifest, HERE), trusted(store, manifest, HERE), names)
    with pytest.raises(ValueError, match="other tensors for l2:1"):
        check_alike(checked(store, manifest, HERE), lambda _: [blocks[0], *blocks[:2]], names)

    for file in tmp_path.glob("*/*/*/l2-*"):
        file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    assert len(trusted(store, manifest, as_read)(names)) == 3
    with pytest.raises(DamagedCacheError):
        checked(store, manifest, as_read)(names)
