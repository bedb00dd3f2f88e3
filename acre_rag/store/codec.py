"""Blocks of keys and values to bytes and back, bit for bit and without copying."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from acre_rag.cache import StoredBlock
from acre_rag.cache.stored import (
    FORMS,
    Shape,
    form_of,
    joined_parts,
    layout_of,
    parts_of,
    stored_bytes,
)
from acre_rag.store.address import check_hex, check_name, document_digest
from acre_rag.store.frame import KnownFrame, Label, known_frame, seal, sealed_bytes, unseal
from acre_rag.store.protocol import ByteRun

CACHE_FORMAT = 1
"""Format of blocks and manifests; part of a cache's identity."""

_KIND = b"ACREKV"
_MAX_HEADER_BYTES = 4096


def encode_block(
    block: StoredBlock, *, space: str, document_id: str, version: str, name: str
) -> list[ByteRun]:
    """Turn a block into bytes that belong to one place of one version of one document.

    The payload (keys and then values; steps and then codes where they are quantized) is a view of
    the block's own memory where that is contiguous and on the CPU: write it before the block
    changes. Hosts are little-endian.

    Args:
        block: Keys not rotated; bfloat16, float16 or float32, or quantized.
        space: Hex digest of what makes caches of one model unfit for another.
        document_id: Id of the document.
        version: Hex digest of space and text.
        name: Name of the value, such as `l2:17`.

    Returns:
        Runs of bytes to be written one after another.

    Raises:
        ValueError: The block is empty or has another dtype.
        StoreError: The space, the id, the version or the name is malformed.
    """
    form, shape = form_of(block), block.shape
    if form not in FORMS or 0 in shape:
        raise ValueError(
            f"a block has dtype {form} and shape {list(shape)}; expected one of "
            f"{', '.join(FORMS)}, and 1 or more on each axis"
        )
    header = _header(form, shape, space=space, document_id=document_id, version=version, name=name)
    return seal(_KIND, CACHE_FORMAT, header, [_bytes_of(part) for part in parts_of(block)])


def encoded_bytes(
    shape: Shape,
    form: str,
    *,
    space: str,
    document_id: str,
    version: str,
    name: str,
) -> int:
    """Count the bytes that `encode_block` makes of a block of a shape and a form.

    Raises:
        StoreError: The space, the id, the version or the name is malformed.
    """
    header = _header(form, shape, space=space, document_id=document_id, version=version, name=name)
    return sealed_bytes(header, stored_bytes(form, shape))


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownBlocks:
    """Blocks of which all but the number, keys and values is known before their bytes are.

    Attributes:
        space: Their space.
        document_id: Their document.
        version: Their version.
        form: One of `FORMS`.
        shape: (layers, kv_heads, tokens, head_dim).
        frame: What their bytes must be.
    """

    space: str
    document_id: str
    version: str
    form: str
    shape: Shape
    frame: KnownFrame

    def decode(self, buffer: ByteRun, name: str) -> StoredBlock:
        """Turn bytes into a block as `decode_block` does, at little more than their checksum.

        Raises:
            DamagedCacheError: As there; or the block has another form or shape.
        """
        payload = self.frame.payload(buffer, name.encode())
        if payload is not None:
            return joined_parts(self.form, self.shape, _parts(payload, self.form, self.shape))
        place = {"space": self.space, "document_id": self.document_id, "version": self.version}
        block = decode_block(buffer, **place, name=name)
        found = (block.shape, form_of(block))
        if found != (self.shape, self.form):
            raise Label(self.document_id, name).damage(
                "shape", found=str(found), expected=str((self.shape, self.form))
            )
        return block


@lru_cache(maxsize=64)
def known_blocks(
    form: str, shape: Shape, *, space: str, document_id: str, version: str, digits: int
) -> KnownBlocks:
    """Tell what the bytes of blocks of a form and a shape must be.

    Args:
        form: One of `FORMS`.
        shape: (layers, kv_heads, tokens, head_dim).
        space: Space that they are asked for.
        document_id: Document that they are asked for.
        version: Version that they are asked for.
        digits: Characters of the name.

    Raises:
        StoreError: The space, the id or the version is malformed.
    """
    stand_in = f"{'n' * (digits - 2)}:0"  # nothing else in a header has a colon
    header = _header(
        form, shape, space=space, document_id=document_id, version=version, name=stand_in
    )
    frame = known_frame(
        _KIND, CACHE_FORMAT, header, stored_bytes(form, shape), word=stand_in.encode()
    )
    return KnownBlocks(
        space=space,
        document_id=document_id,
        version=version,
        form=form,
        shape=shape,
        frame=frame,
    )


def decode_block(
    buffer: ByteRun, *, space: str, document_id: str, version: str, name: str
) -> StoredBlock:
    """Turn bytes into the block that they were made from.

    Args:
        buffer: Bytes of one value. The block is a view of them: read it, do not write to it.
        space: Space that the value was asked for.
        document_id: Document that the value was asked for.
        version: Version that the value was asked for.
        name: Name that the value was asked for.

    Returns:
        Keys not rotated; on the CPU.

    Raises:
        DamagedCacheError: The bytes are not, down to the last one, what `encode_block` wrote for
            this place.
        StoreError: The space, the id, the version or the name is malformed.
    """
    label = Label(document_id, name)
    header, payload = unseal(
        buffer, label, kind=_KIND, format_number=CACHE_FORMAT, max_header_bytes=_MAX_HEADER_BYTES
    )
    for field, expected in _binding(space, document_id, version, name).items():
        if header.get(field) != expected:
            raise label.damage(
                "foreign", found=f"{field} {header.get(field)!r}", expected=repr(expected)
            )
    form, shape = _form_and_shape(header, label)
    if payload.nbytes != stored_bytes(form, shape):
        raise label.damage(
            "shape",
            found=f"{payload.nbytes} bytes of keys and values",
            expected=f"those of the shape {shape} in {form}",
        )
    return joined_parts(form, shape, _parts(payload, form, shape))


def _header(
    form: str, shape: Shape, *, space: str, document_id: str, version: str, name: str
) -> dict[str, object]:
    binding = _binding(space, document_id, version, name)
    return {**binding, "dtype": form, "shape": list(shape)}


def _binding(space: str, document_id: str, version: str, name: str) -> dict[str, str]:
    check_hex("space", space)
    check_hex("version", version)
    check_name(name)
    document = document_digest(document_id)
    return {"space": space, "document": document, "version": version, "name": name}


def _form_and_shape(header: Mapping[str, object], label: Label) -> tuple[str, Shape]:
    """Read form and shape: (layers, kv_heads, tokens, head_dim), each at least 1."""
    form, shape = header.get("dtype"), header.get("shape")
    if not isinstance(form, str) or form not in FORMS:
        raise label.damage("shape", found=f"dtype {form!r}", expected=", ".join(FORMS))
    if not isinstance(shape, list) or len(shape) != 4:
        raise label.damage("shape", found=f"shape {shape!r}", expected="four sizes")
    if not all(type(size) is int and 1 <= size < 2**31 for size in shape):
        raise label.damage("shape", found=f"shape {shape!r}", expected="sizes of 1 or more")
    layers, kv_heads, tokens, head_dim = shape
    return form, (layers, kv_heads, tokens, head_dim)


def _parts(payload: memoryview, form: str, shape: Shape) -> list[Tensor]:
    """View a payload, whose size was checked, as the tensors that it consists of."""
    memory, start, parts = _writable(payload), 0, []
    for dtype, part in layout_of(form, shape):
        numbers = math.prod(part)
        # Bytes viewed as another type afterwards would take longer than their checksum.
        flat = torch.frombuffer(memory, dtype=dtype, count=numbers, offset=start)
        parts.append(flat.view(part))
        start += numbers * dtype.itemsize
    return parts


def _bytes_of(tensor: Tensor) -> memoryview:
    # NumPy has no bfloat16: go through bytes.
    raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
    return raw.numpy().data


class _Writable:
    """Shows read-only memory as writable, because PyTorch has no read-only tensors and warns."""

    def __init__(self, owner: "np.ndarray[tuple[int], np.dtype[np.uint8]]") -> None:
        interface = owner.__array_interface__
        self.owner = owner
        self.__array_interface__ = interface | {"data": (interface["data"][0], False)}


def _writable(payload: memoryview) -> "memoryview | np.ndarray[tuple[int], np.dtype[np.uint8]]":
    if not payload.readonly:
        return payload
    # The view keeps its `_Writable`, which keeps the array, which keeps the payload.
    return np.asarray(_Writable(np.frombuffer(payload, np.uint8)))
