"""The parts that can be measured, each within minutes, and the file that each becomes."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from acre_rag.bench.at_once import at_once
from acre_rag.bench.decode import decode
from acre_rag.bench.encode import encode
from acre_rag.bench.figures import Findings
from acre_rag.bench.first_token import first_token
from acre_rag.bench.growth import budget, documents, length
from acre_rag.bench.llama_cpp import llama_cpp
from acre_rag.bench.load import load
from acre_rag.bench.machine import machine
from acre_rag.bench.policy import policy
from acre_rag.bench.provenance import provenance
from acre_rag.bench.scene import Scene
from acre_rag.errors import ConfigError

FORMAT = 1
"""Format of the files; another one is refused."""

PARTS: Mapping[str, Callable[[Scene], Findings]] = MappingProxyType(
    {
        "machine": machine,
        "encode": encode,
        "first-token": first_token,
        "decode": decode,
        "policy": policy,
        "length": length,
        "documents": documents,
        "budget": budget,
        "at-once": at_once,
        "load": load,
        "llama-cpp": llama_cpp,
    }
)
"""What each part is called, in the order of a report."""

REPORTED = (*PARTS, "check", "replays", "profile", "peak", "million")
"""Parts that a report may have: those, and the ones of `benchmarks/gpu.py`."""

_FIELDS = ("acre_bench", "part", "settings", "provenance", "findings")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One part, as it was measured.

    Attributes:
        part: Its name.
        settings: Model, number types and sizes.
        provenance: Machine, date, commit and versions.
        findings: What was found.
    """

    part: str
    settings: Mapping[str, Any]
    provenance: Mapping[str, Any]
    findings: Findings


def chosen(names: Sequence[str] | None) -> list[str]:
    """Check the names of parts; `None` takes all.

    Raises:
        ConfigError: There is no such part.
    """
    unknown = [name for name in names or () if name not in PARTS]
    if unknown:
        raise ConfigError(
            f"found no part called {unknown[0]!r}; expected one of {', '.join(PARTS)}: correct it"
        )
    return list(dict.fromkeys(names or PARTS))


def measure(part: str, scene: Scene) -> Measured:
    """Measure one part."""
    return measured(part, scene, PARTS[part])


def measured(part: str, scene: Scene, run: Callable[[Scene], Findings]) -> Measured:
    """Measure what need not be a part of `PARTS`, and say with what."""
    local = scene.local
    return Measured(
        part=part,
        settings={
            "model": Path(local.name).name,
            "dtype": str(local.model.dtype).removeprefix("torch."),
            "device": local.device.type,
            "adapter": scene.adapter is None or scene.adapter != "none",
            "stored_dtype": scene.config.stored_dtype,
            "interval_tokens": scene.config.interval_tokens,
            "window_tokens": scene.config.window_tokens,
            **asdict(scene.sizes),
        },
        provenance=provenance(),
        findings=run(scene),
    )


def write_part(measured: Measured, path: Path) -> None:
    """Write one part to a file.

    Raises:
        ConfigError: It cannot be written.
    """
    value = {
        "acre_bench": FORMAT,
        "part": measured.part,
        "settings": dict(measured.settings),
        "provenance": dict(measured.provenance),
        "findings": measured.findings.to_json(),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written ({error.strerror}); expected a folder of yours: name another"
        ) from error


def read_part(path: Path) -> Measured:
    """Read one part from a file.

    Raises:
        ConfigError: It is not what `write_part` wrote.
    """
    try:
        return _measured(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} is no part of a measurement ({error}); expected a file that "
            "acre bench --json wrote, of this version: measure it again"
        ) from error


def _measured(value: Any) -> Measured:  # noqa: ANN401  # anything that JSON can be
    if not isinstance(value, dict) or sorted(value) != sorted(_FIELDS):
        raise TypeError("other fields")
    if value["acre_bench"] != FORMAT or value["part"] not in REPORTED:
        raise ValueError(f"format {value['acre_bench']!r}, part {value['part']!r}")
    return Measured(
        part=value["part"],
        settings=value["settings"],
        provenance=value["provenance"],
        findings=Findings.from_json(value["findings"]),
    )


def read_parts(paths: Sequence[Path]) -> list[Measured]:
    """Read the parts of one report, in its order; a folder gives all of its files.

    Raises:
        ConfigError: There is none, a part comes twice, or models or machines differ.
    """
    files: list[Path] = []
    for path in paths:
        files += sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise ConfigError(
            "found no file to report; expected those that acre bench --json wrote: name them"
        )
    found: dict[str, Measured] = {}
    for file in files:
        one = read_part(file)
        if one.part in found:
            raise ConfigError(
                f"found {one.part} twice, again in {file}; expected it once: drop one"
            )
        found[one.part] = one
    for kind, names in (("settings", ("model", "dtype")), ("provenance", ("processor", "gpu"))):
        for name in names:
            values = {str(getattr(one, kind).get(name)) for one in found.values()}
            if len(values) > 1:
                raise ConfigError(
                    f"the parts are of several kinds of {name}: {', '.join(sorted(values))}; "
                    "expected one: make a report of each"
                )
    return [found[name] for name in REPORTED if name in found]
