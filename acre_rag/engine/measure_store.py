"""Read what is stored, and take the time: what a value costs, and a byte."""

import logging
import time
from collections.abc import Sequence

from acre_rag.cost import StoreSpeeds, fitted
from acre_rag.cost.speeds import SAMPLE_BYTES
from acre_rag.errors import StoreError
from acre_rag.store.archive import CacheArchive
from acre_rag.store.manifest import Manifest

_LOG = logging.getLogger("acre_rag")
_MOST_VALUES = 64
_MOST_SECONDS = 1.0


def measure_store(archive: CacheArchive, manifests: Sequence[Manifest]) -> StoreSpeeds | None:
    """Read values of some documents, each once, until they tell enough; nothing is written.

    Returns:
        `None` where nothing could be read.
    """
    terms: list[tuple[float, float]] = []
    seconds: list[float] = []
    for manifest in manifests:
        for name in _spread(manifest.block_names):
            own = CacheArchive(archive.store, archive.space)
            started = time.perf_counter()
            try:
                own.read_block(manifest, name)
            except StoreError as error:
                _LOG.info("left out of the measurement: %s", error)
                continue
            seconds.append(time.perf_counter() - started)
            terms.append((1.0, float(own.bytes_read)))
            if _enough(terms, seconds):
                break
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


def _spread(names: Sequence[str]) -> Sequence[str]:
    """Take names of L1 and of L2 by turns: they differ in size, which tells value from byte."""
    l1 = [name for name in names if name.startswith("l1:")]
    l2 = [name for name in names if not name.startswith("l1:")]
    mixed = [name for pair in zip(l1, l2, strict=False) for name in pair]
    return [*mixed, *l1[len(l2) :], *l2[len(l1) :]]


def _enough(terms: Sequence[tuple[float, float]], seconds: Sequence[float]) -> bool:
    size = sum(size for _, size in terms)
    return len(terms) >= _MOST_VALUES or size >= 4 * SAMPLE_BYTES or sum(seconds) >= _MOST_SECONDS
