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
from acre_rag.cache import StoredBlock
from acre_rag.cache.stored import Shape, joined_parts, layout_of, parts_of, stored_bytes
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
    name = raw_names(manifest)[0]
    form, shape = manifest.block_dtype(name), manifest.block_shape(name)

    def read(names: Sequence[str]) -> Sequence[Any]:
        with closing(store.read_each(SPACE, DOCUMENT, VERSION, names)) as values:
            return [use(_unchecked(value, form, shape)) for value in values]

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
    name = raw_names(manifest)[0]
    layout = layout_of(manifest.block_dtype(name), manifest.block_shape(name))
    memory = [torch.empty(shape, dtype=dtype) for dtype, shape in layout]

    def use(block: StoredBlock) -> list[Tensor]:
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


def check_alike(ours: Read, theirs: Read, names: Sequence[str]) -> None:
    """Hold what one way reads to what another does, bit for bit.

    Raises:
        ValueError: They differ.
    """
    for name, one, other in zip(names, ours(names), theirs(names), strict=True):
        if not all(
            map(torch.equal, (one.keys.cpu(), one.values.cpu()), (other.keys, other.values))
        ):
            raise ValueError(f"found other tensors for {name}; expected the same: time nothing")


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


def _unchecked(value: memoryview | DamagedCacheError, form: str, shape: Shape) -> StoredBlock:
    if isinstance(value, DamagedCacheError):
        raise value
    start, parts = value.nbytes - stored_bytes(form, shape), []
    for dtype, part in layout_of(form, shape):
        numbers = math.prod(part)
        flat = torch.frombuffer(value, dtype=dtype, count=numbers, offset=start)
        parts.append(flat.view(part))
        start += numbers * dtype.itemsize
    return joined_parts(form, shape, parts)
