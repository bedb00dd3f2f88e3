"""Bytes: where caches are kept, and how they are kept from ever being wrong."""

from acre_rag.store.archive import ArchiveWriter, CacheArchive
from acre_rag.store.codec import CACHE_FORMAT, decode_block, encode_block
from acre_rag.store.directory import DirectoryStore
from acre_rag.store.location import open_store
from acre_rag.store.manifest import Manifest
from acre_rag.store.protocol import CacheStore, DocumentWriter

__all__ = [
    "CACHE_FORMAT",
    "ArchiveWriter",
    "CacheArchive",
    "CacheStore",
    "DirectoryStore",
    "DocumentWriter",
    "Manifest",
    "decode_block",
    "encode_block",
    "open_store",
]
