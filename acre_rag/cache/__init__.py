"""Tensors: keys and values of tokens, before rotary embedding."""

from acre_rag.cache.block import KVBlock

__all__ = ["KVBlock"]
