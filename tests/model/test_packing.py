"""Windows packed for one attention call have the keys that they have one by one."""

import sys
from types import ModuleType

import pytest
import torch

from acre_rag.errors import ConfigError
from acre_rag.model.packing import WindowPacking, check_packing

PREFIX, DOCUMENTS, WINDOWS, ROWS, HEADS, DIM = 3, 2, 4, 10, 5, 7
LANDMARKS = torch.tensor([4, 9])


def _packing() -> WindowPacking:
    return WindowPacking.of(PREFIX, DOCUMENTS, WINDOWS, ROWS, LANDMARKS)


def _seen(prefix: torch.Tensor, windows: torch.Tensor, number: int) -> torch.Tensor:
    """Join by hand what one window sees: (kv_heads, keys, head_dim)."""
    document, window = divmod(number, WINDOWS)
    earlier = windows[document * WINDOWS : document * WINDOWS + window]
    landmarks = [rows[:, LANDMARKS] for rows in earlier]
    return torch.cat([prefix[0], *landmarks, windows[number]], dim=1)


def _random() -> tuple[torch.Tensor, torch.Tensor]:
    prefix = torch.randn(1, HEADS, PREFIX, DIM)
    return prefix, torch.randn(DOCUMENTS * WINDOWS, HEADS, ROWS, DIM)


def test_packed_keys_of_a_window_are_what_it_remembers_and_then_its_own() -> None:
    prefix, windows = _random()

    packing = _packing()
    packed = packing.pack(prefix, windows)

    starts = packing.key_starts.tolist()
    assert len(packed) == starts[-1]
    for number in range(DOCUMENTS * WINDOWS):
        own = slice(starts[number], starts[number + 1])
        expected = _seen(prefix, windows, number)
        assert torch.equal(packed[own].transpose(0, 1), expected)
        assert packing.positions[own].tolist() == list(range(expected.shape[1]))


def test_a_rows_gradient_is_the_sum_over_all_windows_that_see_it() -> None:
    prefix, windows = _random()
    weights = torch.randn(int(_packing().key_starts[-1]), HEADS, DIM)
    by_hand, packed = (windows.clone().requires_grad_() for _ in range(2))

    (_packing().pack(prefix, packed) * weights).sum().backward()
    seen = [_seen(prefix, by_hand, number) for number in range(DOCUMENTS * WINDOWS)]
    (torch.cat(seen, dim=1).transpose(0, 1) * weights).sum().backward()

    torch.testing.assert_close(packed.grad, by_hand.grad)


def test_queries_are_counted_window_by_window() -> None:
    packing = _packing()

    assert packing.query_starts.tolist() == [ROWS * n for n in range(DOCUMENTS * WINDOWS + 1)]
    assert packing.longest == (ROWS, PREFIX + (WINDOWS - 1) * len(LANDMARKS) + ROWS)


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
