"""Keys, frames and payloads, read by what docs/stores.md says with struct and msgpack alone."""

import hashlib
import struct
from contextlib import closing
from math import prod

import msgpack
import pytest
import torch
from redis import Redis

from acre_rag.store import CacheArchive
from acre_rag.store.redis import RedisStore
from tests.store.samples import DOCUMENT, SPACE, VERSION, blocks_of, manifest_of
from tests.store.servers import Server


def taken_apart(data: bytes, kind: bytes) -> tuple[dict[str, object], bytes]:
    """Take header and payload out of a frame."""
    found, number, header_bytes, payload_bytes = struct.unpack_from("<6sHIQ", data)
    start = -(-(36 + header_bytes) // 64) * 64
    assert (found, number, len(data)) == (kind, 1, start + payload_bytes)
    assert data[36 + header_bytes : start].strip(b"\0") == b""
    return msgpack.unpackb(data[36 : 36 + header_bytes]), data[start:]


@pytest.mark.redis
def test_a_document_in_redis_can_be_read_by_the_page_about_stores(redis_server: Server) -> None:
    manifest = manifest_of(metadata={"author": "Ada"})
    with (
        closing(RedisStore(redis_server.url)) as store,
        CacheArchive(store, SPACE).writer(DOCUMENT, VERSION) as writer,
    ):
        for name, block in blocks_of(manifest).items():
            writer.write_block(name, block)
        writer.publish(manifest)
    digest = hashlib.sha256(DOCUMENT.encode()).hexdigest()[:40]
    start = f"acre:{{{SPACE}.{digest}}}:"

    with Redis(port=redis_server.port) as client:
        line, _, published = client.get(f"{start}manifest").partition(b"\n")
        version = line.split(b" ")[0].decode()
        fields, payload = taken_apart(published, b"ACREMF")
        intervals = -(-fields["tokens"] // fields["interval_tokens"])
        places = struct.unpack_from(f"<{2 * intervals}I", payload)
        text = payload[8 * intervals :].decode()
        values = {name: client.get(f"{start}{version}:{name}") for name in manifest.block_names}
        names = client.hgetall(f"{start}names")
        documents = client.smembers("acre:documents")

    assert (fields["document_id"], fields["metadata"], text) == (
        DOCUMENT,
        {"author": "Ada"},
        manifest.text,
    )
    assert places[:intervals] == tuple(manifest.interval_starts)
    assert places[intervals:] == tuple(manifest.interval_ends)
    assert names == {f"{version}:{n}".encode(): b"%d" % len(v) for n, v in values.items()}
    assert f"{SPACE}.{digest}".encode() in documents or not documents
    for name, block in blocks_of(manifest).items():
        header, payload = taken_apart(values[name], b"ACREKV")
        assert header == {
            "space": SPACE,
            "document": digest,
            "version": version,
            "name": name,
            "dtype": "bfloat16",
            "shape": list(block.shape),
        }
        count = prod(block.shape)
        numbers = struct.unpack(f"<{2 * count}h", payload)
        assert list(numbers[:count]) == block.keys.view(torch.int16).flatten().tolist()
        assert list(numbers[count:]) == block.values.view(torch.int16).flatten().tolist()
