"""The same model in the ordinary way: plain prefill, stock caches, stock `generate`."""

import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import DynamicCache

from acre_rag.model.decode import Watch, generate_greedily
from acre_rag.model.grouped_attention import stock_attention
from acre_rag.model.local import LocalModel


def prefill_plainly(local: LocalModel, ids: list[int], chunk_tokens: int) -> DynamicCache:
    """Run ids through the stock model chunk by chunk, each attending to all before it.

    Raises:
        ValueError: A chunk has no tokens.
    """
    if chunk_tokens < 1:
        raise ValueError(f"chunk_tokens is {chunk_tokens}; expected 1 or more")
    cache = DynamicCache()
    rows = torch.tensor([ids], device=local.device)
    with local.lock, stock_attention(local.model), torch.inference_mode():
        for start in range(0, len(ids), chunk_tokens):
            local.model(
                input_ids=rows[:, start : start + chunk_tokens],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
    return cache


def generate_plainly(
    local: LocalModel,
    ids: list[int],
    cache: DynamicCache | None,
    max_new_tokens: int,
    on_token: Callable[[], None] = lambda: None,
) -> list[int]:
    """Generate greedily with stock `generate`: token ids.

    Args:
        local: Model and tokenizer.
        ids: Token ids that follow the cache.
        cache: Keys and values of everything before `ids`, rotated; it grows.
        max_new_tokens: Most tokens to generate.
        on_token: Called after every token.
    """
    watch = Watch(threading.Event(), on_token)
    with local.lock, stock_attention(local.model):
        made = generate_greedily(local, ids, cache, max_new_tokens, watch)
    new: list[int] = made[0, len(ids) :].tolist()
    return new


def copied(cache: DynamicCache) -> DynamicCache:
    """Copy a cache, which generating changes."""
    return DynamicCache(ddp_cache_data=[(k.clone(), v.clone()) for k, v in _layers(cache)])


def save_plainly(cache: DynamicCache, path: Path) -> int:
    """Write a cache to a file, as prefix caches keep it; count its bytes."""
    parts = {}
    for number, (keys, values) in enumerate(_layers(cache)):
        parts[f"{number}.keys"] = keys.contiguous()
        parts[f"{number}.values"] = values.contiguous()
    save_file(parts, path)
    return path.stat().st_size


def load_plainly(local: LocalModel, path: Path) -> DynamicCache:
    """Read all of a saved cache, ready to be generated over."""
    with safe_open(path, framework="pt", device=str(local.device)) as parts:
        names = range(len(parts.keys()) // 2)
        layers: list[tuple[Tensor, Tensor]] = [
            (parts.get_tensor(f"{n}.keys"), parts.get_tensor(f"{n}.values")) for n in names
        ]
    return DynamicCache(ddp_cache_data=layers)


def _layers(cache: DynamicCache) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of each layer, rotated, (1, kv_heads, tokens, head_dim)."""
    return [(layer.keys, layer.values) for layer in cache.layers]  # type: ignore[union-attr,misc]  # all are plain


def gaps(moments: list[float]) -> list[float]:
    """Seconds between one moment and the next."""
    return [after - before for before, after in pairwise(moments)]
