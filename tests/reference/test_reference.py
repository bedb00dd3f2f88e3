"""The oracle itself: two implementations of it agree, and both agree with the stock model."""

import torch

from acre_rag.model.local import LocalModel
from tests.conftest import FindLocal
from tests.reference import forward, llama
from tests.reference.rows import Rows
from tests.tiny import INTERVAL, KV_HEADS, Q_HEADS, tiny_adapter

IDS = [11, 40, 3, 99, 250, 7, 8, 160, 21, 34, 55, 89, 144, 233, 1, 2, 5]


def test_rows_of_plain_text_give_the_stock_forward(find_local: FindLocal, family: str) -> None:
    model = find_local(family, torch.float32).model
    rows = Rows(IDS).rows

    ours = forward.run(model, rows)
    with torch.inference_mode():
        stock = model(torch.tensor([IDS])).logits[0]

    torch.testing.assert_close(ours.logits, stock, rtol=1e-4, atol=1e-4)


def test_loops_over_weights_agree_with_rows_over_modules(local: LocalModel) -> None:
    adapter = tiny_adapter(local.model.config)
    rows = Rows(IDS[:4])
    read = rows.document(IDS, interval=INTERVAL, window=8, segment=16, memory="landmarks")
    rows.follow(rows.spliced([read], [{0, 3}]), IDS[:3])

    by_modules = forward.run(local.model, rows.rows, adapter).logits
    by_loops = llama.logits(
        local.model.state_dict(),
        rows.rows,
        heads=Q_HEADS,
        kv_heads=KV_HEADS,
        theta=10000.0,
        epsilon=local.model.config.rms_norm_eps,
        adapter=adapter,
    )

    torch.testing.assert_close(by_loops, by_modules, rtol=1e-4, atol=1e-4)


def test_a_landmark_has_its_rank_behind_the_prefix_when_seen_from_later_windows() -> None:
    rows = Rows([1, 2])

    read = rows.document([5] * 7, interval=2, window=4, segment=8, memory="landmarks")

    first_of_second_window = rows.rows[read.tokens[4]]
    assert first_of_second_window.sees == [
        ((0,), 0), ((1,), 1), ((read.landmarks[0],), 2), ((read.landmarks[1],), 3),
        ((read.tokens[4],), 4),
    ]  # fmt: skip
    assert rows.rows[read.landmarks[1]].position == 2 + 5
    assert [len(rows) for rows in read.intervals] == [2, 2, 2, 1]
