import subprocess
import sys

import pytest

import acre_rag

NAMES = [
    "ACREConfig", "ACREEngine", "ACREError", "ACREIndex", "ACREQueryEngine", "Answer",
    "AnswerStream", "AsyncText", "Completion", "Document", "Explanation", "Ingested", "LocalModel",
    "Prompt", "RefillTokens", "Retrieval", "Source", "StoredDocument", "open_store",
]  # fmt: skip


def test_the_public_names_are_these_in_order() -> None:
    assert acre_rag.__all__ == NAMES
    assert dir(acre_rag) == NAMES


@pytest.mark.parametrize(
    "name",
    [name for name in NAMES if name not in ("ACREIndex", "ACREQueryEngine", "RefillTokens")],
)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(acre_rag, name).__name__ == name


def test_another_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = acre_rag.Nonsense


def test_importing_the_package_loads_no_heavy_library() -> None:
    code = (
        "import sys, acre_rag; heavy = {'torch', 'transformers', 'redis', 'llama_index', "
        "'langchain_core', 'numpy'}; print(sorted(heavy & set(sys.modules)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=240
    )

    assert done.stdout.strip() == "[]"


def test_an_adapter_names_the_extra_that_is_missing() -> None:
    code = (
        "import sys; sys.modules['llama_index'] = None; sys.modules['llama_index.core'] = None\n"
        "import acre_rag\n"
        "try:\n    acre_rag.ACREQueryEngine\n"
        "except ImportError as error:\n    print(error)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, timeout=240,
        env={"PYTHONPATH": ":".join([".", "integrations", *sys.path])},
    )  # fmt: skip

    assert "pip install 'acre-rag[llama-index]'" in done.stdout
