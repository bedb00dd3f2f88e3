"""Keys and values in small integers: keys by channel of a block, values by token.

key   = centre of its channel + code * step of its channel
value = code * step of its token

Every number is off by half a step at most. Keys before rotary embedding have channels that lie far
from zero (the bias of their projection): the centre keeps a step as fine as what varies.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from acre_rag.cache.block import KVBlock
from acre_rag.errors import ConfigError

_KEY_LEVELS = 127
_VALUE_LEVELS: Mapping[str, int] = MappingProxyType({"int8": 127, "int8-int4": 7})
# Steps are rounded to bfloat16; so much is added that none becomes too short to reach the farthest.
_ROUNDING = 1 + 2**-7

QUANTIZED = tuple(_VALUE_LEVELS)
"""Forms that `quantize` knows: `int8`, and `int8-int4` with keys in 8 bits and values in 4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedBlock:
    """Keys and values of some tokens as small integers, in every layer of one model.

    Attributes:
        form: `int8`, or `int8-int4`.
        head_dim: Head size.
        key_centres: Middle of each channel, not rotated, (layers, kv_heads, 1, head_dim), bfloat16.
        key_steps: Step of each channel, same shape, bfloat16.
        value_steps: Step of each token, (layers, kv_heads, tokens, 1), bfloat16.
        key_codes: (layers, kv_heads, tokens, head_dim), int8.
        value_codes: The same; in 4 bits (layers, kv_heads, tokens, half of head_dim rounded up),
            uint8, the even channel in the lower half of each byte, 8 meaning zero.
    """

    form: str
    head_dim: int
    key_centres: Tensor
    key_steps: Tensor
    value_steps: Tensor
    key_codes: Tensor
    value_codes: Tensor

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the keys: (layers, kv_heads, tokens, head_dim)."""
        layers, kv_heads, tokens, head_dim = self.key_codes.shape
        return layers, kv_heads, tokens, head_dim

    @property
    def tokens(self) -> int:
        """Number of tokens in the block."""
        return self.key_codes.shape[2]

    def slice(self, start: int, end: int) -> "QuantizedBlock":
        """View the tokens from `start` up to `end`, without copying."""
        return QuantizedBlock(
            form=self.form,
            head_dim=self.head_dim,
            key_centres=self.key_centres,
            key_steps=self.key_steps,
            value_steps=self.value_steps[:, :, start:end],
            key_codes=self.key_codes[:, :, start:end],
            value_codes=self.value_codes[:, :, start:end],
        )

    def to(self, *, dtype: torch.dtype, device: torch.device | str) -> KVBlock:
        """Turn back into keys and values of a dtype, on a device; the codes are what travels."""
        centres, steps = self.key_centres.to(device).float(), self.key_steps.to(device).float()
        keys = self.key_codes.to(device).float().mul_(steps).add_(centres).to(dtype)
        codes = self.value_codes.to(device)
        if codes.dtype == torch.uint8:
            codes = _unpacked(codes)[..., : self.head_dim]
        values = codes.float().mul_(self.value_steps.to(device).float())
        return KVBlock(keys, values.to(dtype))


def quantize(block: KVBlock, form: str, *, finite: bool = False) -> QuantizedBlock:
    """Turn keys and values into small integers, on the device where they are.

    Args:
        block: Keys not rotated, any float dtype.
        form: One of `QUANTIZED`.
        finite: Whoever calls looks by himself whether all numbers are finite; looking makes the
            host wait for a GPU.

    Raises:
        ConfigError: A key or a value is infinite, or not a number, and `finite` is not said.
        KeyError: There is no such form.
    """
    keys, values = block.keys.float(), block.values.float()
    low, high = keys.amin(2, keepdim=True), keys.amax(2, keepdim=True)
    centres = (low / 2 + high / 2).to(torch.bfloat16)
    reach = torch.maximum(high - centres.float(), centres.float() - low)
    key_steps = (reach / _KEY_LEVELS * _ROUNDING).to(torch.bfloat16)
    farthest = values.abs().amax(3, keepdim=True)
    value_steps = (farthest / _VALUE_LEVELS[form] * _ROUNDING).to(torch.bfloat16)
    if not finite and not (key_steps.isfinite().all() and value_steps.isfinite().all()):
        raise ConfigError(
            f"found keys or values that are infinite or not numbers; {form} expected finite ones: "
            "compute in bfloat16 or float32, or store as they are computed"
        )
    value_codes = _codes(values, value_steps)
    return QuantizedBlock(
        form=form,
        head_dim=keys.shape[3],
        key_centres=centres,
        key_steps=key_steps,
        value_steps=value_steps,
        key_codes=_codes(keys - centres.float(), key_steps),
        value_codes=value_codes if _VALUE_LEVELS[form] == 127 else _packed(value_codes),
    )


def _codes(numbers: Tensor, steps: Tensor) -> Tensor:
    # What is so small that its step became zero is zero.
    safe = torch.where(steps == 0, torch.inf, steps.float())
    return (numbers / safe).round_().to(torch.int8)


def _packed(codes: Tensor) -> Tensor:
    """Put two channels into a byte: (..., channels) int8 to (..., half of them) uint8."""
    shifted = (codes + 8).to(torch.uint8)
    if shifted.shape[-1] % 2:
        shifted = torch.nn.functional.pad(shifted, (0, 1), value=8)
    return shifted[..., ::2] | (shifted[..., 1::2] << 4)


def _unpacked(packed: Tensor) -> Tensor:
    """Take two channels out of a byte: (..., bytes) uint8 to (..., twice as many) int8."""
    both = torch.stack((packed & 15, packed >> 4), dim=-1)
    return both.flatten(-2).to(torch.int8) - 8
