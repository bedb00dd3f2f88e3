"""The equivalence gate passes where refilling is exact, and fails where it is not."""

from typing import Any

import pytest
import torch
from torch import Tensor

from acre_rag.cache import KVBlock
from acre_rag.cache.quantized import QuantizedBlock
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
    assert len(report.comparisons) == 4


def test_the_training_free_mode_compares_full_refills_alone(local: LocalModel) -> None:
    report = verify(DocumentReader(local, None, tiny_settings()))

    assert report.passed
    assert len(report.comparisons) == 2


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


@pytest.mark.parametrize("form", ["float32", "bfloat16", "int8", "int8-int4"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_stored_form_is_compared_with_a_tolerance_of_its_own(
    find_local: FindLocal, dtype: torch.dtype, form: str
) -> None:
    local = find_local("llama", dtype)
    report = verify(DocumentReader(local, None, tiny_settings(stored_dtype=form)))

    exact, stored = report.comparisons
    assert report.stored == form
    assert report.passed, report
    assert form in stored.name
    assert exact.tolerance < stored.tolerance
    rounded = {"float32": form != "float32", "bfloat16": form.startswith("int8")}[report.dtype]
    assert (exact.difference != stored.difference) == rounded


@pytest.mark.parametrize("form", ["int8", "int8-int4"])
def test_a_stored_form_that_mixes_up_tokens_fails_the_gate(
    local: LocalModel, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore = QuantizedBlock.to

    def shifted(block: QuantizedBlock, **place: Any) -> KVBlock:  # noqa: ANN401  # dtype, device
        right = restore(block, **place)
        return KVBlock(right.keys.roll(1, 2), right.values.roll(1, 2))

    monkeypatch.setattr(QuantizedBlock, "to", shifted)

    report = verify(DocumentReader(local, None, tiny_settings(stored_dtype=form)))

    assert [comparison.passed for comparison in report.comparisons] == [True, False]
