"""Memory for values from Redis, used again when nobody looks at it any more."""

import threading
import weakref
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from acre_rag.errors import StoreError
from acre_rag.store.redis_options import BufferKind

Buffer: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.uint8]]"

_KEPT_BYTES = 2**28
_STEP_BYTES = 2**16


class Buffers:
    """Memory that returns here when nobody looks at it any more.

    Fresh memory costs more than it takes to receive a value: the system clears each page of it.

    Args:
        make: Gives memory of a size.
        keep_bytes: The most that is kept for later; 0 gives fresh memory each time.
    """

    def __init__(self, make: Callable[[int], Buffer], *, keep_bytes: int = _KEPT_BYTES) -> None:
        self._make = make
        self._keep_bytes = keep_bytes
        self._free: dict[int, list[Buffer]] = {}
        self._kept_bytes = 0
        self._lock = threading.Lock()

    def lease(self, size: int) -> memoryview:
        """Give memory of a size; it is used again once the view and all made of it are gone."""
        capacity = -(-size // _STEP_BYTES) * _STEP_BYTES
        with self._lock:
            free = self._free.get(capacity)
            memory = free.pop() if free else None
            if memory is not None:
                self._kept_bytes -= capacity
        if memory is None:
            memory = self._make(capacity)
        view = memory[:]
        weakref.finalize(view, self._take_back, memory).atexit = False
        return view.data[:size]

    def _take_back(self, memory: Buffer) -> None:
        # Called wherever the last look ends, even within `lease`: it must not wait for itself.
        if self._lock.acquire(blocking=False):
            try:
                if self._kept_bytes + memory.nbytes <= self._keep_bytes:
                    self._free.setdefault(memory.nbytes, []).append(memory)
                    self._kept_bytes += memory.nbytes
            finally:
                self._lock.release()


def buffers_of(kind: BufferKind) -> Buffers:
    """Make buffers of a kind.

    Raises:
        StoreError: The memory cannot be pinned, as there is no GPU.
    """
    if kind != "pinned":
        keep_bytes = 0 if kind == "fresh" else _KEPT_BYTES
        return Buffers(lambda size: np.empty(size, np.uint8), keep_bytes=keep_bytes)
    import torch

    if not torch.cuda.is_available():
        raise StoreError(
            "found buffers='pinned' on a machine without a GPU; expected one that copies from "
            "pinned memory: choose 'reused'"
        )
    return Buffers(lambda size: torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy())
