"""What a question waits for: bounded as a whole, and damage where it is met."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from acre_rag.cache import StoredBlock
from acre_rag.engine import ledger
from acre_rag.engine.ledger import Ledger
from acre_rag.errors import DamagedCacheError, StoreError
from acre_rag.store import CacheArchive, DirectoryStore


@pytest.fixture
def costs(tmp_path: Path) -> Ledger:
    return Ledger(CacheArchive(DirectoryStore(tmp_path), "5bace0" * 4))


def test_what_is_damaged_is_raised_to_who_waits_for_it(costs: Ledger) -> None:
    damage = DamagedCacheError("found none", "ingest it", reason="missing", value="l2:1")
    blocks: Iterator[StoredBlock | DamagedCacheError] = iter([damage, damage])

    for _ in range(2):
        with pytest.raises(DamagedCacheError, match="found none"):
            costs.wait(blocks)


def test_a_store_that_is_too_slow_for_a_whole_question_is_given_up(
    costs: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "_PATIENCE_SECONDS", 0.05)

    def slow() -> Iterator[StoredBlock | DamagedCacheError]:
        time.sleep(0.2)
        yield DamagedCacheError("found none", "ingest it", reason="missing", value="l2:1")

    with pytest.raises(StoreError, match=r"took \d+\.\d s for 0 bytes; expected 1048576 a second"):
        costs.wait(slow())

    assert costs.waited_seconds > 0.05
