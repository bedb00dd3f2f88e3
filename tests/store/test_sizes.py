"""The sizes that docs/stores.md names."""

import re
from pathlib import Path

import pytest

from acre_rag.cache.stored import stored_bytes
from acre_rag.engine.ingest import intervals_per_block
from acre_rag.text.layout import Layout

PAGE = (Path(__file__).parents[2] / "docs" / "stores.md").read_text(encoding="utf-8")
ROWS = re.findall(
    r"\((\d+) layers, (\d+) key heads of (\d+)\) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+)", PAGE
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}-layers")
def test_bytes_a_token_are_those_of_the_page(row: tuple[str, ...]) -> None:
    layers, kv_heads, head_dim = map(int, row[:3])
    layout = Layout(tokens=4096, interval_tokens=16, window_tokens=1024, segment_tokens=4096)

    for form, written in zip(("bfloat16", "int8", "int8-int4"), row[3:], strict=True):
        interval = stored_bytes(form, (layers, kv_heads, 16, head_dim))
        tokens = 16 * intervals_per_block(layout, interval)
        block = stored_bytes(form, (layers, kv_heads, tokens, head_dim))
        landmark = stored_bytes("bfloat16", (layers, kv_heads, 1, head_dim))
        assert int(written.replace(",", "")) == block / tokens + landmark / 16


def test_the_page_has_three_models() -> None:
    assert len(ROWS) == 3
