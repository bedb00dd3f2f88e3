"""Windows packed for one attention call have the keys that they have one by one."""

import sys
from types import ModuleType

import pytest
import torch

from acre_rag.errors import ConfigError
from acre_rag.model.packing import WindowPacking, check_packing

PREFIX, DOCUMENTS, WINDOWS, ROWS, LANDMARKS, HEADS, DIM = 3, 2, 4, 10, 2, 5, 7


def test_packed_keys_of_a_window_are_what_it_remembers_and_then_its_own() -> None:
    memory = torch.randn(DOCUMENTS, HEADS, PREFIX + WINDOWS * LANDMARKS, DIM)
    windows = torch.randn(DOCUMENTS * WINDOWS, HEADS, ROWS, DIM)

    packing = WindowPacking.of(PREFIX, DOCUMENTS, WINDOWS, ROWS, LANDMARKS)
    packed = packing.pack(memory, windows)

    starts = packing.key_starts.tolist()
    assert len(packed) == starts[-1]
    for number in range(DOCUMENTS * WINDOWS):
        document, window = divmod(number, WINDOWS)
        seen = PREFIX + window * LANDMARKS
        expected = torch.cat([memory[document, :, :seen], windows[number]], dim=1)
        torch.testing.assert_close(
            packed[starts[number] : starts[number + 1]].transpose(0, 1), expected
        )


def test_queries_are_counted_window_by_window() -> None:
    packing = WindowPacking.of(PREFIX, DOCUMENTS, WINDOWS, ROWS, LANDMARKS)

    assert packing.query_starts.tolist() == [ROWS * n for n in range(DOCUMENTS * WINDOWS + 1)]
    assert packing.longest == (ROWS, PREFIX + (WINDOWS - 1) * LANDMARKS + ROWS)


def _without_windows(query: object, is_causal: bool = False) -> None:  # as in torch 2.10
    del query, is_causal


@pytest.mark.parametrize("old", [None, _without_windows])
def test_a_torch_that_is_too_old_to_train_on_a_gpu_is_told(
    monkeypatch: pytest.MonkeyPatch, old: object
) -> None:
    check_packing()
    module = None if old is None else ModuleType("varlen")
    if module is not None:
        module.varlen_attn = old  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", module)

    with pytest.raises(ConfigError, match=r"found torch .*; expected 2\.11 or newer .*: upgrade"):
        check_packing()
