"""Read a document once, ask it many times: refilled bi-layer caches for local language models."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from acre_llama_index import ACREIndex, ACREQueryEngine
    from acre_rag.answer import Answer, Ingested, Retrieval, Source, StoredDocument
    from acre_rag.config import ACREConfig, Prompt, RefillTokens
    from acre_rag.engine import ACREEngine, AnswerStream, AsyncText, Completion
    from acre_rag.errors import ACREError
    from acre_rag.explanation import Explanation
    from acre_rag.model.local import LocalModel
    from acre_rag.store.location import open_store
    from acre_rag.text.document import Document

__version__ = "0.1.0"

__all__ = [
    "ACREConfig",
    "ACREEngine",
    "ACREError",
    "ACREIndex",
    "ACREQueryEngine",
    "Answer",
    "AnswerStream",
    "AsyncText",
    "Completion",
    "Document",
    "Explanation",
    "Ingested",
    "LocalModel",
    "Prompt",
    "RefillTokens",
    "Retrieval",
    "Source",
    "StoredDocument",
    "open_store",
]

_HOMES = {
    "ACREConfig": "acre_rag.config",
    "ACREEngine": "acre_rag.engine",
    "ACREError": "acre_rag.errors",
    "ACREIndex": "acre_llama_index",
    "ACREQueryEngine": "acre_llama_index",
    "Answer": "acre_rag.answer",
    "AnswerStream": "acre_rag.engine",
    "AsyncText": "acre_rag.engine",
    "Completion": "acre_rag.engine",
    "Document": "acre_rag.text.document",
    "Explanation": "acre_rag.explanation",
    "Ingested": "acre_rag.answer",
    "LocalModel": "acre_rag.model.local",
    "Prompt": "acre_rag.config",
    "RefillTokens": "acre_rag.config",
    "Retrieval": "acre_rag.answer",
    "Source": "acre_rag.answer",
    "StoredDocument": "acre_rag.answer",
    "open_store": "acre_rag.store.location",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for: transformers takes a second to load."""
    if name not in _HOMES:
        raise AttributeError(f"module 'acre_rag' has no attribute {name!r}")
    try:
        module = import_module(_HOMES[name])
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "llama_index":
            raise
        raise ImportError(
            f"acre_rag.{name} needs llama-index-core, which is not installed; "
            "run pip install 'acre-rag[llama-index]'"
        ) from error
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
