"""What docs/llama-index.md shows runs as it stands, and its errors are those that come."""

import ast
import asyncio
import gc
import inspect
import re
from functools import reduce
from pathlib import Path

import pytest

import acre_llama_index
from acre_rag import ACREError, LocalModel

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "llama-index.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
TABLES = re.findall(r"^\| option of `(.*?)` .*\n\| ---.*\n((?:\|.*\n)+)", PAGE, flags=re.MULTILINE)
ERROR = re.compile(r"  # ACREError: (.*)")


@pytest.fixture
def folder(tmp_path: Path, talker: LocalModel, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with small documents, where the default model is a tiny one."""
    (tmp_path / "examples" / "documents").mkdir(parents=True)
    for path in (ROOT / "examples" / "documents").glob("*.md"):
        text = path.read_text(encoding="utf-8")[:400]
        (tmp_path / "examples" / "documents" / path.name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(LocalModel, "load", lambda *_: talker)
    monkeypatch.setenv("ACRE_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(block: str, names: dict[str, object]) -> None:
    code = compile(block, "llama-index.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    awaited = eval(code, names)  # noqa: S307  # our own text
    if awaited is not None:
        asyncio.run(awaited)


# The memory that the framework gives a chat leaves a database open behind it.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
# Its agents use deprecated parts of its own.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.usefixtures("folder")
def test_every_block_of_the_page_runs_in_its_order() -> None:
    names: dict[str, object] = {}
    failures = 0
    for block in BLOCKS:
        expected = ERROR.search(block)
        if expected is None:
            run(block, names)
            continue
        failures += 1
        with pytest.raises(ACREError, match=re.escape(expected[1])):
            run(block, names)

    names.clear()
    gc.collect()
    assert failures == 6
    assert len(BLOCKS) > 18


def test_links_within_the_page_lead_somewhere() -> None:
    titles = re.findall(r"^#+ (.*)$", PAGE, flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}

    assert set(re.findall(r"\]\(#(.*?)\)", PAGE)) <= anchors
    for path in re.findall(r"\]\(([^#)]+)\)", PAGE):
        assert (ROOT / "docs" / path).exists(), path


def test_every_table_of_options_is_that_of_a_signature() -> None:
    for name, table in TABLES:
        documented = {}
        for row in table.splitlines():
            _, options, default, *_ = row.split("|")
            documented |= dict.fromkeys(re.findall(r"`(\w+)`", options), default.strip(" `"))
        owner = reduce(getattr, name.split("."), acre_llama_index)
        parameters = inspect.signature(owner).parameters.values()
        defaults = {one.name: repr(one.default) for one in parameters if one.name != "self"}
        assert documented == defaults, name

    assert {name.split(".")[0] for name, _ in TABLES} == set(acre_llama_index.__all__) - {
        "ACREIngestionPipeline",  # the framework's own arguments
        "ACREResponse",
        "ACRETransform",
    }
