"""Bytes: where caches are kept, and how they are kept from ever being wrong."""

from acre_rag.store.archive import ArchiveWriter, CacheArchive
from acre_rag.store.codec import CACHE_FORMAT, decode_block, encode_block
from acre_rag.store.directory import DirectoryStore
from acre_rag.store.encrypted import EncryptedStore
from acre_rag.store.key import StoreKey, read_key
from acre_rag.store.location import open_plain_store, open_store
from acre_rag.store.manifest import Manifest
from acre_rag.store.protocol import CacheStore, DocumentWriter

__all__ = [
    "CACHE_FORMAT",
    "ArchiveWriter",
    "CacheArchive",
    "CacheStore",
    "DirectoryStore",
    "DocumentWriter",
    "EncryptedStore",
    "Manifest",
    "StoreKey",
    "decode_block",
    "encode_block",
    "open_plain_store",
    "open_store",
    "read_key",
]
