import itertools
import struct

import msgpack
import numpy as np
import pytest
import torch
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from acre_rag.cache import KVBlock, QuantizedBlock, quantize
from acre_rag.cache.stored import QUANTIZED, form_of, parts_of
from acre_rag.errors import DamagedCacheError, StoreError
from acre_rag.store import CACHE_FORMAT, decode_block, encode_block
from acre_rag.store.codec import KnownBlocks, encoded_bytes, known_blocks
from acre_rag.store.frame import seal
from tests.store.samples import DOCUMENT, DTYPES, SPACE, VERSION, block_of, same_bits

PLACE = {"space": SPACE, "document_id": DOCUMENT, "version": VERSION, "name": "l2:17"}


def small_block(form: str, shape: tuple[int, ...] = (3, 2, 5, 7)) -> QuantizedBlock:
    rng = torch.Generator().manual_seed(5)
    return quantize(KVBlock(*torch.randn(2, *shape, generator=rng)), form)


def encoded(block: KVBlock | QuantizedBlock | None = None) -> bytes:
    return b"".join(encode_block(block or block_of(), **PLACE))


def header_of(data: bytes) -> dict[str, object]:
    (size,) = struct.unpack_from("<I", data, 8)
    return msgpack.unpackb(data[36 : 36 + size])


def forged(payload: bytes = b"", **changes: object) -> bytes:
    """Seal a header that an enemy chose, checksum and all."""
    return b"".join(seal(b"ACREKV", CACHE_FORMAT, header_of(encoded()) | changes, [payload]))


def sealed(header: bytes, payload: bytes = b"") -> bytes:
    """Frame raw bytes as a header, after the description of the format alone."""
    sizes = struct.pack("<6sHIQ", b"ACREKV", CACHE_FORMAT, len(header), len(payload))
    body = header + bytes(-(36 + len(header)) % 64) + payload
    return sizes + xxhash.xxh3_128(sizes + body).digest() + body


def known(block: KVBlock | QuantizedBlock, asked: dict[str, str] = PLACE) -> KnownBlocks:
    """Tell what a block of a place must be, as the manifest does."""
    place = {name: asked[name] for name in ("space", "document_id", "version")}
    return known_blocks(form_of(block), block.shape, **place, digits=len(asked["name"]))


def reason_of(data: bytes, block: KVBlock | QuantizedBlock | None = None) -> str:
    """Read what is no block, without and with knowing which one it should be."""
    errors = []
    for decode in (
        lambda: decode_block(data, **PLACE),
        lambda: known(block or block_of()).decode(data, PLACE["name"]),
    ):
        with pytest.raises(DamagedCacheError) as caught:
            decode()
        errors.append((caught.value.value, caught.value.reason, str(caught.value)))
    assert errors[0] == errors[1]
    assert errors[0][0] == "l2:17"
    return errors[0][1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 2, 5, 4), (2, 3, 7, 8)])
def test_blocks_come_back_bit_for_bit(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    block = block_of(shape, dtype=dtype)

    back = decode_block(encoded(block), **PLACE)

    assert same_bits(back, block)


@pytest.mark.parametrize("dtype", DTYPES)
def test_slices_of_a_block_come_back_bit_for_bit(dtype: torch.dtype) -> None:
    block = block_of((3, 2, 9, 4), dtype=dtype).slice(2, 7)

    back = decode_block(encoded(block), **PLACE)

    assert same_bits(back, block)


@pytest.mark.parametrize("form", QUANTIZED)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 2, 5, 7), (2, 3, 7, 8)])
def test_quantized_blocks_come_back_bit_for_bit(form: str, shape: tuple[int, ...]) -> None:
    block = small_block(form, shape)

    back = decode_block(encoded(block), **PLACE)

    assert isinstance(back, QuantizedBlock)
    assert (back.form, back.shape, back.head_dim) == (form, shape, shape[3])
    assert all(torch.equal(a, b) for a, b in zip(parts_of(back), parts_of(block), strict=True))


@pytest.mark.parametrize("form", QUANTIZED)
def test_slices_of_a_quantized_block_come_back(form: str) -> None:
    block = small_block(form).slice(1, 4)

    back = decode_block(encoded(block), **PLACE)

    assert all(torch.equal(a, b) for a, b in zip(parts_of(back), parts_of(block), strict=True))


@pytest.mark.parametrize("form", ["bfloat16", *QUANTIZED])
def test_a_block_that_is_known_comes_back_as_any(form: str) -> None:
    block = block_of() if form == "bfloat16" else small_block(form)

    back = known(block).decode(encoded(block), PLACE["name"])

    assert (form_of(back), back.shape) == (form, block.shape)
    for ours, theirs in zip(parts_of(back), parts_of(block), strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert torch.equal(ours.contiguous().view(torch.int8), theirs.view(torch.int8))


def test_a_known_block_may_have_its_header_written_otherwise() -> None:
    block, header = block_of(), header_of(encoded())
    turned = msgpack.packb(dict(reversed(header.items())))

    back = known(block).decode(sealed(turned, encoded()[-480:]), PLACE["name"])

    assert same_bits(back, block)


@pytest.mark.parametrize("other", [block_of((3, 2, 4, 4)), block_of(dtype=torch.float16)])
def test_a_block_of_another_shape_or_form_than_is_known_is_refused(other: KVBlock) -> None:
    with pytest.raises(DamagedCacheError) as caught:
        known(block_of()).decode(encoded(other), PLACE["name"])

    assert caught.value.reason == "shape"


def test_encoding_and_decoding_copy_no_payload() -> None:
    block = block_of()

    _, keys, values = encode_block(block, **PLACE)
    data = bytearray(encoded(block))
    back = decode_block(data, **PLACE)

    assert np.frombuffer(keys, np.uint8).ctypes.data == block.keys.data_ptr()
    assert np.frombuffer(values, np.uint8).ctypes.data == block.values.data_ptr()
    start = np.frombuffer(data, np.uint8).ctypes.data
    assert start < back.keys.data_ptr() < start + len(data)
    assert (back.keys.data_ptr() - start) % 64 == 0


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_gives_a_block_that_outlives_it_and_can_be_used(kind: type) -> None:
    block = block_of(dtype=torch.float32)

    back = decode_block(kind(encoded(block)), **PLACE)

    assert same_bits(KVBlock.concatenate([back, back]), KVBlock.concatenate([block, block]))
    assert same_bits(
        back.to(dtype=torch.float16, device="cpu"), block.to(dtype=torch.float16, device="cpu")
    )


def test_the_format_can_be_read_without_this_library() -> None:
    block = block_of()

    data = encoded(block)
    kind, number, header_bytes, payload_bytes = struct.unpack_from("<6sHIQ", data)

    assert (kind, number) == (b"ACREKV", 1)
    assert data[20:36] == xxhash.xxh3_128(data[:20] + data[36:]).digest()
    assert len(data) == -(-(36 + header_bytes) // 64) * 64 + payload_bytes
    assert header_of(data)["shape"] == [3, 2, 5, 4]
    keys = np.frombuffer(data, np.uint8)[-payload_bytes:][: payload_bytes // 2]
    assert keys.tobytes() == block.keys.view(torch.uint8).numpy().tobytes()


def as_floats(raw: bytes, shape: tuple[int, ...]) -> "np.ndarray[tuple[int, ...], np.dtype]":
    """Read bfloat16: the upper halves of float32."""
    return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4").reshape(shape)


@pytest.mark.parametrize("form", QUANTIZED)
def test_the_format_of_quantized_blocks_can_be_read_without_this_library(form: str) -> None:
    layers, heads, tokens, channels = shape = (3, 2, 5, 8)
    block = small_block(form, shape)

    data = encoded(block)
    (payload_bytes,) = struct.unpack_from("<Q", data, 12)
    payload = data[-payload_bytes:]
    per_channel, per_token = 2 * layers * heads * channels, 2 * layers * heads * tokens
    starts = np.cumsum([0, per_channel, per_channel, per_token, layers * heads * tokens * channels])
    centres, steps, value_steps, codes, value_codes = (
        payload[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)
    )

    header = header_of(data)
    assert (header["dtype"], header["shape"]) == (form, list(shape))
    keys = np.frombuffer(codes, "i1").reshape(shape) * as_floats(
        steps, (layers, heads, 1, channels)
    )
    keys += as_floats(centres, (layers, heads, 1, channels))
    if form == "int8":
        numbers = np.frombuffer(value_codes, "i1").reshape(shape)
    else:
        pairs = np.frombuffer(value_codes, "u1").reshape(layers, heads, tokens, channels // 2)
        numbers = np.stack([pairs & 15, pairs >> 4], axis=-1).reshape(shape).astype("i1") - 8
    values = numbers * as_floats(value_steps, (layers, heads, tokens, 1))
    theirs = block.to(dtype=torch.float32, device="cpu")
    assert (keys == theirs.keys.numpy()).all()
    assert (values == theirs.values.numpy()).all()


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("space", "ab" * 8),
        ("document_id", "manuals/pump.MD"),
        ("version", "cd" * 8),
        ("name", "l2:18"),
        ("name", "l1:17"),
    ],
)
def test_a_block_of_another_place_is_foreign(field: str, other: str) -> None:
    data, asked = encoded(), PLACE | {field: other}

    for decode in (
        lambda: decode_block(data, **asked),
        lambda: known(block_of(), asked).decode(data, asked["name"]),
    ):
        with pytest.raises(DamagedCacheError) as caught:
            decode()
        assert caught.value.reason == "foreign"


def test_every_truncation_is_noticed() -> None:
    data = encoded()

    reasons = {reason_of(data[:size]) for size in range(len(data))}

    assert reasons == {"truncated"}


def test_every_single_bit_is_guarded() -> None:
    block = block_of((1, 1, 2, 4))
    data = encoded(block)

    reasons = set()
    for place, bit in itertools.product(range(len(data)), range(8)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << bit
        reasons.add(reason_of(bytes(flipped), block))

    assert reasons == {"header", "format", "truncated", "checksum"}


@given(st.binary(max_size=300))
def test_no_other_bytes_are_a_block(data: bytes) -> None:
    assert reason_of(data) in {"truncated", "header"}


@given(st.data())
def test_bytes_written_over_a_block_are_noticed(data: st.DataObject) -> None:
    whole = encoded()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    changed = whole[:start] + data.draw(st.binary(max_size=40)) + whole[end:]

    if changed == whole:
        assert same_bits(decode_block(changed, **PLACE), block_of())
    else:
        reason_of(changed)


def test_trailing_bytes_are_refused() -> None:
    assert reason_of(encoded() + b"\0") == "header"


def test_another_format_number_is_refused() -> None:
    data = bytearray(encoded())
    data[6] += 1

    assert reason_of(bytes(data)) == "format"


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ((100, 10 * 2**40), "header"),
        ((2**32 - 1, 100), "header"),
        ((100, 2**31), "truncated"),
        ((4096, 0), "truncated"),
    ],
)
def test_sizes_beyond_reason_are_refused_before_anything_is_allocated(
    sizes: tuple[int, int], reason: str
) -> None:
    forged_sizes = struct.pack("<6sHIQ", b"ACREKV", CACHE_FORMAT, *sizes)

    assert reason_of(forged_sizes + encoded()[20:]) == reason


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [10 * 2**40, 1, 1, 1]},
        {"shape": [2**31 - 1] * 4},
        {"shape": [-1, -2, 5, 6]},
        {"shape": [0, 0, 0, 0]},
        {"shape": [3, 2, 5]},
        {"shape": [3, 2, 5, 4.0]},
        {"shape": [3, 2, 5, True]},
        {"shape": "3254"},
        {"shape": None},
        {"dtype": "float64"},
        {"dtype": "bfloat"},
        {"dtype": ["bfloat16"]},
        {"dtype": 7},
        {"dtype": "float32"},
        {"dtype": "int8"},
        {"dtype": "int8-int4"},
        {"dtype": "int4"},
    ],
)
def test_a_header_that_lies_about_the_payload_is_refused(changes: dict[str, object]) -> None:
    payload = encoded()[-480:]

    assert reason_of(forged(payload, **changes)) == "shape"


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\xc1",
        msgpack.packb([1, 2]),
        msgpack.packb({"a": 1}) + b"\0",
        b"\x91" * 4000 + b"\xc0",
        b"\x81\x91\xc0\xc0",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x81\xa1a\xd6\xff\0\0\0\0",
        b"\x81\xa1a\xa2\xff\xff",
    ],
)
def test_headers_that_are_no_small_map_are_refused(header: bytes) -> None:
    assert reason_of(sealed(header)) == "header"


def test_a_header_may_lack_no_field() -> None:
    assert reason_of(sealed(msgpack.packb({}))) == "foreign"


@pytest.mark.parametrize(
    "block", [block_of((3, 2, 0, 4)), KVBlock(*torch.zeros(2, 3, 2, 5, 4).double())]
)
def test_blocks_that_could_not_come_back_are_not_encoded(block: KVBlock) -> None:
    with pytest.raises(ValueError, match="expected one of bfloat16, float16, float32"):
        encode_block(block, **PLACE)


@pytest.mark.parametrize(
    ("field", "malformed"),
    [
        ("space", "../../etc"),
        ("space", "AB" * 8),
        ("version", ""),
        ("name", "l2"),
        ("name", "l2:-1"),
        ("name", "l2:1/.."),
        ("document_id", ""),
    ],
)
def test_malformed_places_are_refused(field: str, malformed: str) -> None:
    with pytest.raises(StoreError, match="expected"):
        encode_block(block_of(), **(PLACE | {field: malformed}))


@pytest.mark.parametrize("stored", ["bfloat16", *QUANTIZED])
@pytest.mark.parametrize("count", [3_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_random_corruptions_give_no_tensor(count: int, stored: str) -> None:
    generator = np.random.default_rng(0)
    block = block_of() if stored == "bfloat16" else small_block(stored)
    whole = encoded(block)
    others = [
        b"".join(encode_block(block_of(seed=1), **(PLACE | change)))
        for change in ({"name": "l2:18"}, {"version": "cd" * 8}, {"document_id": "x"})
    ]
    reasons: dict[str, int] = {}

    for _ in range(count):
        data = bytearray(whole)
        match generator.integers(5):
            case 0:
                data[generator.integers(len(data))] ^= 1 << generator.integers(8)
            case 1:
                del data[generator.integers(len(data)) :]
            case 2:
                start, end = np.sort(generator.integers(len(data) + 1, size=2))
                noise = generator.bytes(end - start)
                data[start:end] = noise
            case 3:
                cut = generator.integers(1, len(data))
                data = data[cut:] + data[:cut]
            case 4:
                other = others[generator.integers(len(others))]
                cut = generator.integers(len(data))
                data[cut:] = other[cut:]
        if data != whole:
            reason = reason_of(bytes(data), block)
            reasons[reason] = reasons.get(reason, 0) + 1

    assert sum(reasons.values()) > 0.99 * count
    assert set(reasons) == {"header", "format", "truncated", "checksum", "foreign"}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("document_id", ["a", "long" * 1000])
@pytest.mark.parametrize("name", ["l1:0", "l2:123456789"])
@pytest.mark.parametrize("tokens", [1, 300])
def test_the_size_of_a_stored_block_is_known_before_it_is_made(
    dtype: torch.dtype, document_id: str, name: str, tokens: int
) -> None:
    block = block_of((3, 2, tokens, 5), dtype=dtype)
    place = {"space": SPACE, "document_id": document_id, "version": VERSION, "name": name}

    counted = encoded_bytes((3, 2, tokens, 5), str(dtype).removeprefix("torch."), **place)

    assert counted == sum(memoryview(part).nbytes for part in encode_block(block, **place))
