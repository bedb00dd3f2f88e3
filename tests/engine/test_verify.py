"""The equivalence gate passes where refilling is exact, and fails where it is not."""

import pytest
import torch
from torch import Tensor

from acre_rag.engine.verify import verify
from acre_rag.model.local import LocalModel
from acre_rag.model.reader import DocumentReader
from acre_rag.model.reading import ReadingTwin
from tests.conftest import FindLocal
from tests.tiny import tiny_adapter, tiny_settings

DTYPES = [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_family_passes_the_gate(
    find_local: FindLocal, family: str, dtype: torch.dtype
) -> None:
    local = find_local(family, dtype)
    reader = DocumentReader(local, tiny_adapter(local.model.config), tiny_settings())

    report = verify(reader)

    assert report.passed, report
    assert len(report.comparisons) == 3


def test_the_training_free_mode_has_one_comparison(local: LocalModel) -> None:
    report = verify(DocumentReader(local, None, tiny_settings()))

    assert report.passed
    assert len(report.comparisons) == 1


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_misplaced_row_fails_the_gate(
    find_local: FindLocal, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find_local("llama", dtype)
    reader = DocumentReader(found, tiny_adapter(found.model.config), tiny_settings())
    rotate = ReadingTwin.rotate

    def misplaced(self: ReadingTwin, keys: Tensor, positions: Tensor) -> Tensor:
        moved = positions.clone()
        moved[-1] += 5
        return rotate(self, keys, moved)

    monkeypatch.setattr(ReadingTwin, "rotate", misplaced)

    assert not verify(reader).passed
