"""Where and when something was measured, and with what."""

import datetime
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from acre_rag import __version__

_LIBRARIES = ("torch", "transformers", "redis", "numpy", "safetensors")


def provenance() -> dict[str, str | int | None]:
    """Tell machine, date, commit and versions, in words without paths of this machine."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "acre_rag": __version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in _LIBRARIES},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def commit() -> str | None:
    """Name the commit this package was run from, and whether it was changed since."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        named = _git(root, "rev-parse", "--short=12", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{named}, changed" if changed else named


def processor() -> str:
    """Name the processor, as well as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _git(root: Path, *command: str) -> str:
    done = subprocess.run(  # noqa: S603  # nothing of it comes from outside
        ["git", "-C", str(root), *command],  # noqa: S607  # as the user has it
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
