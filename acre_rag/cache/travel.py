"""Tensors on their way to a GPU: from pinned memory, so that the host goes on meanwhile."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

_PIECE = 2**25


def host_empty(shape: Sequence[int], dtype: torch.dtype, device: torch.device | str) -> Tensor:
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


def on_host(tensor: Tensor) -> Tensor:
    """Bring a tensor to the host; from a GPU it is on its way, see `arrival`."""
    if tensor.device.type != "cuda":
        return tensor.cpu()
    host = host_empty(tensor.shape, tensor.dtype, tensor.device)
    return host.copy_(tensor, non_blocking=True)


def arrival(device: torch.device) -> Callable[[], None]:
    """Give a function that waits for all that a device was told to do until now."""
    if device.type != "cuda":
        return lambda: None
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(device))
    return event.synchronize


def brought(tensor: Tensor) -> Iterator[Tensor]:
    """Bring a tensor, (numbers,), to the host piece by piece, the next one already on its way.

    A piece is good until the next one is taken.
    """
    if tensor.device.type != "cuda":
        yield tensor.cpu()
        return
    rooms = [host_empty((_PIECE,), tensor.dtype, tensor.device) for _ in range(2)]
    coming: list[tuple[Tensor, Callable[[], None]]] = []
    for number, piece in enumerate(tensor.split(_PIECE)):
        host = rooms[number % 2][: len(piece)]
        host.copy_(piece, non_blocking=True)
        coming.append((host, arrival(tensor.device)))
        if number:
            earlier, wait = coming.pop(0)
            wait()
            yield earlier
    for host, wait in coming:
        wait()
        yield host
