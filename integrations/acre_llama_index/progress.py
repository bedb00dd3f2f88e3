"""Reading with the framework's progress bars: one over documents, one over a document's tokens."""

from collections.abc import Sequence

from llama_index.core.schema import BaseNode
from llama_index.core.utils import get_tqdm_iterable
from tqdm.auto import tqdm

from acre_llama_index.nodes import as_document, has_text
from acre_rag import ACREEngine

_SHOWN = 40  # characters of an id, which may be a whole path; its end tells most


def read_nodes(engine: ACREEngine, nodes: Sequence[BaseNode], show_progress: bool) -> None:
    """Read nodes into an engine's store, each as a document; blank ones are left out.

    Args:
        engine: Reads.
        nodes: What to read; those stored and unchanged are not read again.
        show_progress: Show which document is being read, and how many of its tokens have been.
    """
    documents = [as_document(node) for node in nodes if has_text(node)]
    if not show_progress:
        engine.ingest(documents)
        return
    shown = get_tqdm_iterable(documents, show_progress, "Reading documents")
    with tqdm(unit=" tokens", leave=False) as bar:

        def show(document_id: str, tokens: int, total: int) -> None:
            bar.set_description(document_id[-_SHOWN:], refresh=False)
            bar.total, bar.n = total, tokens
            bar.refresh()

        engine.ingest(shown, show)
