"""How much memory something takes at its peak, beyond what was taken before."""

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_bytes(run: Callable[[], object]) -> int | None:
    """Run once and tell the most memory it took: the GPU's where there is one, else this process's.

    Pages of files that were mapped count as the process's. `None` where the system does not tell.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return int(torch.cuda.max_memory_allocated() - before)
    try:
        _give_back()
        _CLEAR.write_text("5", encoding="ascii")  # the peak is counted anew from here on
        before = _kilobytes("VmRSS")
        run()
        return 1024 * (_kilobytes("VmHWM") - before)
    except OSError:
        return None


def resident_bytes() -> int | None:
    """Tell how much memory this process has now; `None` where the system does not tell."""
    try:
        return 1024 * _kilobytes("VmRSS")
    except OSError:
        return None


def _kilobytes(name: str) -> int:
    lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)


def _give_back() -> None:
    """Let the allocator return what it holds for later, where it can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
