"""Small documents whose sizes differ on every axis."""

import hashlib

import torch

from acre_rag.cache import KVBlock
from acre_rag.store import Manifest

SPACE = "5bace0" * 4
VERSION = "0123456789abcdef" * 2
OTHER_VERSION = "fedcba9876543210" * 2
DOCUMENT = "manuals/pump.md"
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
LAYERS, KV_HEADS, HEAD_DIM = 3, 2, 4


def manifest_of(
    *,
    document_id: str = DOCUMENT,
    version: str = VERSION,
    space: str = SPACE,
    text: str = "The pump holds seven litres, précisément.",
    metadata: dict[str, object] | None = None,
) -> Manifest:
    """Eleven tokens: intervals of 2, landmarks by 4 a block, intervals by 2 a block."""
    cuts = (0, 4, 9, 15, 20, 28, len(text))
    return Manifest(
        space=space,
        version=version,
        document_id=document_id,
        text=text,
        metadata={} if metadata is None else metadata,
        model="tiny",
        method="landmarks",
        tokens=11,
        interval_tokens=2,
        window_tokens=8,
        segment_tokens=16,
        landmarks_per_block=4,
        intervals_per_block=2,
        interval_starts=cuts[:-1],
        interval_ends=cuts[1:],
        layers=LAYERS,
        kv_heads=KV_HEADS,
        head_dim=HEAD_DIM,
        dtype="bfloat16",
        payload_bytes=1632,
        created="2026-01-31T12:00:00+00:00",
    )


def block_of(
    shape: tuple[int, ...] = (LAYERS, KV_HEADS, 5, HEAD_DIM),
    *,
    dtype: torch.dtype = torch.bfloat16,
    seed: int = 0,
) -> KVBlock:
    """Draw every bit at random: infinities, subnormals and odd NaNs are among them."""
    generator = torch.Generator().manual_seed(seed)
    keys, values = torch.randint(
        0, 256, (2, *shape[:-1], shape[-1] * dtype.itemsize), dtype=torch.uint8, generator=generator
    ).view(dtype)
    return KVBlock(keys, values)


def blocks_of(manifest: Manifest) -> dict[str, KVBlock]:
    """Draw the blocks of a manifest; they follow from its version and their names."""
    dtype = getattr(torch, manifest.dtype)
    return {
        name: block_of(manifest.block_shape(name), dtype=dtype, seed=_seed(manifest.version, name))
        for name in manifest.block_names
    }


def same_bits(ours: KVBlock, theirs: KVBlock) -> bool:
    """Compare bit by bit: NaNs count as equal only when their bits are."""
    return all(
        a.shape == b.shape and a.dtype == b.dtype and _bits(a) == _bits(b)
        for a, b in ((ours.keys, theirs.keys), (ours.values, theirs.values))
    )


def _bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def _seed(*parts: str) -> int:
    return int.from_bytes(hashlib.sha256("/".join(parts).encode()).digest()[:4], "little")
