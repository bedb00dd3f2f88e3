"""Tensors: keys and values of tokens, before rotary embedding."""

from acre_rag.cache.block import KVBlock
from acre_rag.cache.quantized import QuantizedBlock, quantize
from acre_rag.cache.roomy import RoomyBlock
from acre_rag.cache.stored import StoredBlock

__all__ = ["KVBlock", "QuantizedBlock", "RoomyBlock", "StoredBlock", "quantize"]
