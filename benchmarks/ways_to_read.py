"""Ways to read a selection of a stored document: by the plain client, by a store, with no check."""

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, TypeAlias

import redis
import torch
import xxhash
from torch import Tensor

from acre_rag.bench.rounds import Way
from acre_rag.cache import KVBlock, StoredBlock
from acre_rag.cache.stored import parts_of
from acre_rag.errors import DamagedCacheError
from acre_rag.store import CacheArchive, CacheStore, Manifest
from acre_rag.store.address import document_digest
from benchmarks.stored_document import DOCUMENT, SPACE, VERSION, raw_names

Read: TypeAlias = Callable[[Sequence[str]], Sequence[Any]]
Use: TypeAlias = Callable[[StoredBlock], object]

START = f"acre:{{{SPACE}.{document_digest(DOCUMENT)}}}:{VERSION}:"
"""What the keys of the document's values start with."""


def turns(manifest: Manifest, blocks: int, reads: dict[str, Read]) -> list[Way]:
    """Let each way read another selection each time; in one round all of them read the same."""
    return [_way(name, read, _Selections(manifest, blocks)) for name, read in reads.items()]


def turn_after(
    name: str, manifest: Manifest, blocks: int, first: Read, then: Callable[[Any], object]
) -> Way:
    """Time what is done to a selection that was read before."""
    selections = _Selections(manifest, blocks)
    values: list[object] = []

    def read() -> None:
        selections.draw()
        values[:] = first(selections.names)

    return Way(name=name, run=lambda: [then(value) for value in values], before=read)


def plain(client: "redis.Redis", use: Callable[[Any], object] = bytes) -> Read:
    """Read values with the plain client, into fresh bytes."""
    return lambda names: [use(client.get(START + name)) for name in names]


def checked(store: CacheStore, manifest: Manifest, use: Use) -> Read:
    """Read blocks as a question does: each is held to its place and its checksum, then used."""
    archive = CacheArchive(store, SPACE)

    def read(names: Sequence[str]) -> Sequence[Any]:
        with closing(archive.read_blocks(manifest, names)) as blocks:
            return [use(sound(block)) for block in blocks]

    return read


def trusted(store: CacheStore, manifest: Manifest, use: Use) -> Read:
    """Read the same blocks in the same way, and look at nothing but keys and values."""
    shape = manifest.block_shape(raw_names(manifest)[0])

    def read(names: Sequence[str]) -> Sequence[Any]:
        with closing(store.read_each(SPACE, DOCUMENT, VERSION, names)) as values:
            return [use(_unchecked(value, shape)) for value in values]

    return read


def sound(block: StoredBlock | DamagedCacheError) -> StoredBlock:
    """Take what a store gave for a block.

    Raises:
        DamagedCacheError: It is none.
    """
    if isinstance(block, DamagedCacheError):
        raise block
    return block


def as_read(block: StoredBlock) -> StoredBlock:
    """Use nothing: the tensors are there."""
    return block


def copied_once(manifest: Manifest) -> Use:
    """Copy tensors over one another, the least that reads every byte of a file that is mapped."""
    shape = manifest.block_shape(raw_names(manifest)[0])
    memory = torch.empty((2, *shape), dtype=torch.bfloat16)

    def use(block: StoredBlock) -> Tensor:
        for part, place in zip(parts_of(block), memory, strict=True):
            place.copy_(part)
        return memory

    return use


def moved(dtype: torch.dtype, device: str) -> Use:
    """Bring tensors to where a model wants them."""
    return lambda block: block.to(dtype=dtype, device=device)


def moved_bytes(device: str) -> Callable[[bytes], Tensor]:
    """Bring bytes of the plain client to a device."""
    return lambda value: torch.frombuffer(value, dtype=torch.uint8).to(device)


def digest(value: bytes) -> bytes:
    """Do what a checksum takes, and no more."""
    return xxhash.xxh3_128_digest(value)


class _Selections:
    """One selection after the other, the same ones for all who draw."""

    def __init__(self, manifest: Manifest, blocks: int) -> None:
        self._every = raw_names(manifest)
        self._blocks = blocks
        self._generator = torch.Generator().manual_seed(0)
        self.names: Sequence[str] = ()

    def draw(self) -> None:
        places = torch.randperm(len(self._every), generator=self._generator)[: self._blocks]
        self.names = [self._every[place] for place in places.sort().values.tolist()]


def _way(name: str, read: Read, selections: _Selections) -> Way:
    return Way(name=name, run=lambda: read(selections.names), before=selections.draw)


def _unchecked(value: memoryview | DamagedCacheError, shape: tuple[int, int, int, int]) -> KVBlock:
    if isinstance(value, DamagedCacheError):
        raise value
    numbers = math.prod(shape)
    start = value.nbytes - 2 * 2 * numbers
    keys, values = (
        torch.frombuffer(value, dtype=torch.bfloat16, count=numbers, offset=place).view(shape)
        for place in (start, start + 2 * numbers)
    )
    return KVBlock(keys, values)
