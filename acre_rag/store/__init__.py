"""Bytes: where caches are kept, and how they are kept from ever being wrong."""

from acre_rag.store.codec import CACHE_FORMAT, decode_block, encode_block
from acre_rag.store.manifest import Manifest
from acre_rag.store.protocol import CacheStore, DocumentWriter

__all__ = [
    "CACHE_FORMAT",
    "CacheStore",
    "DocumentWriter",
    "Manifest",
    "decode_block",
    "encode_block",
]
