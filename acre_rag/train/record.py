"""What a run was: settings, data, versions; and its losses as a picture."""

import datetime
import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
import xxhash

from acre_rag.errors import DocumentError
from acre_rag.train.processes import Processes

_PACKAGES = ("acre-rag", "torch", "transformers", "accelerate", "peft")
_NOT_DRAWN = {"step", "seconds", "step_seconds", "gradient"}


def start_record(directory: Path, settings: Mapping[str, object], data: Sequence[Path]) -> None:
    """Write `run.json`: what a run is about to do, on what, with what; no path of this machine.

    Raises:
        DocumentError: A file of the data cannot be read.
    """
    directory.mkdir(parents=True, exist_ok=True)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    record = {
        "settings": dict(settings),
        "data": [{"name": path.name, "xxh3_128": _digest(path)} for path in data],
        "versions": {name: _version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "device": gpu or platform.machine(),
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    (directory / "run.json").write_text(text, encoding="utf-8")


def draw_curves(directory: Path) -> bool:
    """Draw the losses of `log.jsonl` to `curves.png`, in the process that writes; was it drawn?"""
    if not Processes.here().first:
        return False
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    log = directory / "log.jsonl"
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    names = list(dict.fromkeys(name for line in lines for name in line if name not in _NOT_DRAWN))
    figure = Figure(figsize=(7, 2.2 * max(len(names), 1)), layout="constrained")
    for place, name in enumerate(names, start=1):
        axes = figure.add_subplot(len(names), 1, place)
        points = [(line["step"], line[name]) for line in lines if name in line]
        axes.plot(*zip(*points, strict=True), marker="." if len(points) < 30 else "")
        axes.set(ylabel=name, xlabel="step" if place == len(names) else "")
    figure.savefig(directory / "curves.png", dpi=120)
    return True


def _digest(path: Path) -> str:
    digest = xxhash.xxh3_128()
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    except OSError as error:
        raise DocumentError(
            f"{path} cannot be read ({error.strerror}); expected a file of training data: check "
            "the path"
        ) from error
    return digest.hexdigest()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
