import struct
from dataclasses import replace

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acre_rag.errors import ACREError, DamagedCacheError, DocumentError
from acre_rag.store import CACHE_FORMAT, Manifest
from acre_rag.store.address import document_digest
from acre_rag.store.frame import seal
from tests.store.samples import DOCUMENT, SPACE, manifest_of

TEXTS = st.text(max_size=40)
METADATA = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def decoded(data: bytes, space: str = SPACE, document_id: str = DOCUMENT) -> Manifest:
    return Manifest.decode(data, space=space, document_id=document_id)


def forged(**changes: object) -> bytes:
    """Seal a header that an enemy chose, checksum and all."""
    data = manifest_of().encode()
    header_bytes, payload_bytes = struct.unpack_from("<IQ", data, 8)
    header = msgpack.unpackb(data[36 : 36 + header_bytes]) | changes
    return b"".join(seal(b"ACREMF", CACHE_FORMAT, header, [data[-payload_bytes:]]))


def test_the_format_can_be_read_without_this_library() -> None:
    manifest = manifest_of(metadata={"pages": [1, 2]})

    data = manifest.encode()
    kind, number, header_bytes, payload_bytes = struct.unpack_from("<6sHIQ", data)
    header = msgpack.unpackb(data[36 : 36 + header_bytes])
    payload = data[-payload_bytes:]
    count = len(manifest.interval_starts)
    places = struct.unpack_from(f"<{2 * count}I", payload)

    assert (kind, number) == (b"ACREMF", 1)
    assert len(data) == -(-(36 + header_bytes) // 64) * 64 + payload_bytes
    assert (header["document_id"], header["metadata"]) == (DOCUMENT, {"pages": [1, 2]})
    assert places[:count] == tuple(manifest.interval_starts)
    assert places[count:] == tuple(manifest.interval_ends)
    assert payload[8 * count :].decode() == manifest.text


def reason_of(data: bytes) -> str:
    with pytest.raises(DamagedCacheError) as caught:
        decoded(data)
    assert caught.value.value == "manifest"
    return caught.value.reason


@given(
    document_id=st.text(min_size=1, max_size=40) | st.just("caf\udce9.txt"),
    text=st.text(min_size=28, max_size=60),
    metadata=st.dictionaries(TEXTS, METADATA, max_size=4),
)
def test_manifests_come_back_as_they_were(
    document_id: str, text: str, metadata: dict[str, object]
) -> None:
    manifest = manifest_of(document_id=document_id, text=text, metadata=metadata)

    back = decoded(manifest.encode(), document_id=document_id)

    assert back == manifest


def listed(data: bytes, document_id: str = DOCUMENT) -> Manifest:
    return Manifest.decode_listed(data, space=SPACE, digest=document_digest(document_id))


def test_a_listed_manifest_says_itself_whose_it_is() -> None:
    assert listed(manifest_of().encode()).document_id == DOCUMENT


def test_damage_to_a_listed_manifest_names_the_document_where_its_name_can_be_read() -> None:
    data = manifest_of().encode()

    with pytest.raises(DamagedCacheError) as caught:
        listed(data[:-1])
    assert str(caught.value) == (
        f"manifest of document {DOCUMENT!r}: found {len(data) - 1} bytes; expected {len(data)}, "
        "as its sizes say; ingest the document again"
    )
    for unreadable in (b"", data[:50], b"\0" * 500, data[:30] + data[31:]):
        with pytest.raises(DamagedCacheError) as caught:
            listed(unreadable)
        assert str(caught.value).startswith(
            f"manifest of the document that is kept under {document_digest(DOCUMENT)}: found "
        )
        assert str(caught.value).endswith("; ingest again the document that is listed no longer")


def test_a_manifest_in_the_place_of_another_document_is_foreign() -> None:
    with pytest.raises(DamagedCacheError, match=f"found that of document '{DOCUMENT}'") as caught:
        listed(manifest_of().encode(), "other")

    assert caught.value.reason == "foreign"


@pytest.mark.parametrize(("field", "other"), [("space", "ab" * 8), ("document_id", "pump.md")])
def test_a_manifest_of_another_place_is_foreign(field: str, other: str) -> None:
    with pytest.raises(DamagedCacheError) as caught:
        decoded(manifest_of().encode(), **{field: other})

    assert caught.value.reason == "foreign"


def test_every_byte_is_guarded() -> None:
    data = manifest_of(metadata={"tags": ["a", 1]}).encode()

    reasons = {reason_of(data[:size]) for size in range(len(data))}
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 0x10
        reasons.add(reason_of(bytes(flipped)))
    reasons.add(reason_of(data + b"\0"))

    assert reasons == {"truncated", "header", "format", "checksum"}


@pytest.mark.parametrize("count", [1_000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_random_corruptions_give_no_manifest(count: int) -> None:
    generator = np.random.default_rng(0)
    whole = manifest_of().encode()
    for _ in range(count):
        data = bytearray(whole)
        start, end = np.sort(generator.integers(len(data) + 1, size=2))
        data[start:end] = generator.bytes(generator.integers(end - start + 1))
        if data != whole:
            reason_of(bytes(data))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tokens": 10**15}, "shape"),
        ({"tokens": -11}, "shape"),
        ({"tokens": 12.0}, "header"),
        ({"tokens": True}, "header"),
        ({"interval_tokens": 0}, "shape"),
        ({"interval_tokens": 1}, "shape"),
        ({"layers": 0}, "shape"),
        ({"version": "../../etc"}, "shape"),
        ({"method": "magic"}, "shape"),
        ({"dtype": 5}, "header"),
        ({"document_id": ["a"]}, "header"),
        ({"metadata": {"a": [[[[]]]] * 5000}}, "header"),
        ({"metadata": {"when": b"\0"}}, "shape"),
        ({"extra": 1}, "header"),
        ({"format": 2}, "shape"),
    ],
)
def test_a_forged_header_is_refused(changes: dict[str, object], reason: str) -> None:
    assert reason_of(forged(**changes)) == reason


@pytest.mark.parametrize(
    "metadata",
    [
        {"when": object()},
        {"half": "\ud800"},
        {"number": float("inf")},
        {"big": 2**63},
        {1: "one"},
        {"bytes": b"x"},
        {"number": np.int64(1)},
        {"many": [0] * 5000},
    ],
)
def test_metadata_that_would_come_back_changed_is_refused(metadata: dict[str, object]) -> None:
    with pytest.raises(DocumentError, match="expected"):
        manifest_of(metadata=metadata)


def test_metadata_nested_too_deep_or_too_large_is_refused() -> None:
    nested: dict[str, object] = {}
    for _ in range(40):
        nested = {"in": nested}

    with pytest.raises(DocumentError, match="nested 32 deep"):
        manifest_of(metadata=nested)
    with pytest.raises(DocumentError, match="shorten"):
        manifest_of(metadata={"long": "x" * 2**20})


@pytest.mark.parametrize(
    "changes",
    [
        {"tokens": 0},
        {"tokens": 13},
        {"interval_starts": (0, 4, 9, 15, 20)},
        {"interval_ends": (4, 9, 15, 20, 28, 1000)},
        {"interval_starts": (0, 4, 9, 15, 29, 28)},
        {"method": "other"},
        {"space": "no"},
    ],
)
def test_fields_that_contradict_each_other_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises((ValueError, ACREError), match=r"expected|leaves"):
        replace(manifest_of(), **changes)


def test_blocks_tile_landmarks_and_tokens() -> None:
    manifest = manifest_of()

    shapes = {name: manifest.block_shape(name)[2] for name in manifest.block_names}

    assert shapes == {"l1:0": 4, "l1:1": 2, "l2:0": 4, "l2:1": 4, "l2:2": 3}
    for name in ("l1:2", "l2:3", "l3:0", "l2:", "l2:x", "l2:-1", "manifest"):
        with pytest.raises(ValueError, match="expected a block"):
            manifest.block_shape(name)


def test_other_metadata_leaves_the_rest_alone() -> None:
    manifest = manifest_of(metadata={"a": 1})

    assert replace(manifest.with_metadata({"b": 2}), metadata={"a": 1}) == manifest
