"""Tensors on their way to a GPU: from pinned memory, so that the host goes on meanwhile."""

from collections.abc import Sequence

import torch
from torch import Tensor


def host_empty(
    shape: Sequence[int], dtype: torch.dtype, device: torch.device | str
) -> Tensor:
    """Make memory on the host that a device can fetch from by itself; not written yet.

    Args:
        shape: Of the tensor.
        dtype: Its number type.
        device: Where it will go; only a GPU wants pinned memory.
    """
    pinned = torch.device(device).type == "cuda"
    return torch.empty(tuple(shape), dtype=dtype, pin_memory=pinned)


def sent(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Give a tensor on a device; from pinned memory nobody waits for it.

    Pinned memory is not handed out again before the device has it: its allocator sees to that.
    """
    if tensor.device == torch.device(device):
        return tensor
    return tensor.to(device, non_blocking=tensor.is_pinned())


def sent_small(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Send a few numbers by way of pinned memory."""
    if torch.device(device).type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def stacked(tensors: Sequence[Tensor], device: torch.device | str) -> Tensor:
    """Stack tensors of one shape on the host, and send all of them at once."""
    like = tensors[0]
    together = host_empty((len(tensors), *like.shape), like.dtype, device)
    torch.stack(list(tensors), out=together)
    return sent(together, device)
