"""Measured constants in the user's cache directory, until something changes that they depend on."""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from acre_rag import __version__
from acre_rag.cost.speeds import (
    SPEEDS_FORMAT,
    ModelSpeeds,
    StoreSpeeds,
    as_plain,
    from_plain,
)

_LOG = logging.getLogger(__name__)
_Speeds = TypeVar("_Speeds", ModelSpeeds, StoreSpeeds)


class KeptSpeeds:
    """Constants of this machine, a file for each thing that they were measured for.

    A file of another version or format, of another thing, or that holds no sound numbers is as
    good as none. Nothing fails where the directory cannot be written: they are measured again.

    Args:
        directory: Where the files are.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self, kind: type[_Speeds], measured_for: Mapping[str, object]) -> _Speeds | None:
        """Find constants that were kept for the same thing; `None` where there are none."""
        told = _told(kind, measured_for)
        path = self._path(told)
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(kept, dict) or kept.get("for") != told:
                raise ValueError("found constants of something else")  # noqa: TRY301
            return from_plain(kind, kept.get("speeds"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            _LOG.info("measuring anew, since %s cannot be used: %s", path, error)
            return None

    def keep(self, speeds: ModelSpeeds | StoreSpeeds, measured_for: Mapping[str, object]) -> None:
        """Keep constants in place of those that were there, in one step."""
        told = _told(type(speeds), measured_for)
        path = self._path(told)
        text = json.dumps({"for": told, "speeds": as_plain(speeds)}, indent=2)
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            handle, aside = tempfile.mkstemp(dir=self._directory)
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(text)
                Path(aside).replace(path)
            except OSError:
                Path(aside).unlink(missing_ok=True)
                raise
        except OSError as error:
            _LOG.info("measured constants cannot be kept in %s: %s", self._directory, error)

    def _path(self, told: Mapping[str, object]) -> Path:
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]
        return self._directory / f"{digest}.json"


def _told(kind: type, measured_for: Mapping[str, object]) -> dict[str, object]:
    own = {"kind": kind.__name__, "format": SPEEDS_FORMAT, "acre_rag": __version__}
    return own | dict(measured_for)
