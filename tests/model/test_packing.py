"""Windows packed for one attention call have the keys that they have one by one."""

import torch

from acre_rag.model.packing import WindowPacking

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
