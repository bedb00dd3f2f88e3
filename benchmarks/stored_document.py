"""A document of a model's shape in a store: random keys and values, no model, no text."""

from collections.abc import Sequence

import torch

from acre_rag.cache import KVBlock
from acre_rag.cache.stored import stored_form
from acre_rag.store import CacheArchive, Manifest, open_store

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


def manifest_of(shape: tuple[int, int, int, int], tokens: int, stored: str) -> Manifest:
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
        dtype=stored,
        payload_bytes=(tokens + intervals) * 4 * layers * kv_heads * head_dim,
        created="2026-01-31T12:00:00+00:00",
    )


def raw_names(manifest: Manifest) -> Sequence[str]:
    """Name the values that hold raw tokens."""
    return [name for name in manifest.block_names if name.startswith("l2:")]


def fill(location: str, manifest: Manifest) -> None:
    """Store random keys and values for every block."""
    generator = torch.Generator().manual_seed(0)
    store = open_store(location)
    with CacheArchive(store, SPACE).writer(DOCUMENT, VERSION) as writer:
        for name in manifest.block_names:
            shape = manifest.block_shape(name)
            block = KVBlock(*torch.randn(2, *shape, generator=generator))
            writer.write_block(name, stored_form(block, manifest.block_dtype(name)))
        writer.publish(manifest)
    store.close()
