"""What people get to see."""

import sys

import pytest

from acre_rag.answer import Source
from acre_rag.cli.show import show_sources


@pytest.mark.parametrize("columns", [40, 72])
def test_an_excerpt_fits_one_line_of_the_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    source = Source(document="a.txt", start=0, end=500, text="word " * 100, score=0.5)

    show_sources([source])

    excerpt = capsys.readouterr().out.splitlines()[-1]
    assert columns - 10 < len(excerpt) < columns
