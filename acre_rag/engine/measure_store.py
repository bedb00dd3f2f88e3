"""Read what is stored as a question does, and take the time: what a value costs, and a byte."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import zip_longest

from acre_rag.cost import StoreSpeeds, fitted
from acre_rag.cost.speeds import SAMPLE_BYTES
from acre_rag.errors import DamagedCacheError, StoreError
from acre_rag.store.archive import CacheArchive
from acre_rag.store.manifest import Manifest

_LOG = logging.getLogger("acre_rag")
_RUN = 16
"""Values that are read in one go: as a question reads them, the next ones already asked for."""
_MOST_VALUES = 8 * _RUN
_MOST_SECONDS = 1.0


def measure_store(archive: CacheArchive, manifests: Sequence[Manifest]) -> StoreSpeeds | None:
    """Read values of some documents, each once, until they tell enough; nothing is written.

    Returns:
        `None` where nothing could be read.
    """
    terms: list[tuple[float, float]] = []
    seconds: list[float] = []
    for manifest, names in _runs(manifests):
        own = CacheArchive(archive.store, archive.space)
        started = time.perf_counter()
        try:
            _read(own, manifest, names)
        except StoreError as error:
            _LOG.info("left out of the measurement: %s", error)
            break  # an outage: every further run would wait for its own time-out
        if not own.bytes_read:
            continue
        seconds.append(time.perf_counter() - started)
        terms.append((float(len(names)), float(own.bytes_read)))
        if _enough(terms, seconds):
            break
    if not seconds:
        return None
    # The first one opens what the others find open.
    first = 1 if len(seconds) > 1 else 0
    per_value, per_byte = fitted(terms[first:], seconds[first:])
    return StoreSpeeds(
        per_value=per_value, per_byte=per_byte, sampled_bytes=sum(size for _, size in terms)
    )


def _read(archive: CacheArchive, manifest: Manifest, names: Sequence[str]) -> None:
    with closing(archive.read_blocks(manifest, names)) as blocks:
        for block in blocks:
            if isinstance(block, DamagedCacheError):
                _LOG.info("left out of the measurement: %s", block)


def _runs(manifests: Sequence[Manifest]) -> Iterator[tuple[Manifest, Sequence[str]]]:
    """Take runs of L1 and of L2 by turns: they differ in size, which tells value from byte."""
    for manifest in manifests:
        names = manifest.block_names
        yield manifest, names[:1]
        l1 = [name for name in names[1:] if name.startswith("l1:")]
        l2 = [name for name in names[1:] if not name.startswith("l1:")]
        for pair in zip_longest(_cut(l2), _cut(l1)):
            yield from ((manifest, run) for run in pair if run)


def _cut(names: Sequence[str]) -> Iterator[Sequence[str]]:
    return (names[start : start + _RUN] for start in range(0, len(names), _RUN))


def _enough(terms: Sequence[tuple[float, float]], seconds: Sequence[float]) -> bool:
    size, values = sum(size for _, size in terms), sum(count for count, _ in terms)
    return values >= _MOST_VALUES or size >= 4 * SAMPLE_BYTES or sum(seconds) >= _MOST_SECONDS
