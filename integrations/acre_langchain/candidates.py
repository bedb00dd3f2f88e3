"""Which stored documents a question may look into."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from langchain_core.documents import Document as LangChainDocument

from acre_rag import ACREEngine, Document

# Documents under such ids hold the text of single passages; they answer only where those are given.
CONTENT_PREFIX = "content:"

Metadata: TypeAlias = Mapping[str, object]
MetadataFilter: TypeAlias = dict[str, object] | Callable[[Metadata], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Documents that a user has chosen.

    Attributes:
        documents: Their ids; `None` takes all that are stored.
        filter: Metadata that they must have, or a function that tells from it.
    """

    documents: Sequence[str] | None = None
    filter: MetadataFilter | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Documents that a question may look into.

    Attributes:
        documents: Their ids; `None` means all that are stored, if any.
        metadata: Of each document, by its id.
        encoded_tokens: Tokens run through the model to store what was not.
    """

    documents: list[str] | None
    metadata: Mapping[str, Metadata]
    encoded_tokens: int = 0


def candidates_in_scope(engine: ACREEngine, scope: Scope) -> Candidates:
    """Find the documents that a user has chosen."""
    stored = {one.id: one.metadata for one in engine.documents(scope.documents)}
    if scope.documents is not None:
        ids: list[str] | None = list(scope.documents)  # one that is missing is named by the engine
    else:
        own = [name for name in stored if not name.startswith(CONTENT_PREFIX)]
        # None keeps the engine's own words for an empty store.
        ids = None if len(own) == len(stored) else own
    if scope.filter is not None:
        known = list(stored) if ids is None else [name for name in ids if name in stored]
        ids = [name for name in known if _matches(stored[name], scope.filter)]
    return Candidates(documents=ids, metadata=stored)


def versions_in_scope(engine: ACREEngine, scope: Scope) -> list[tuple[str, str]]:
    """Name the documents that a user has chosen, and what they hold, as they are stored now."""
    ids = candidates_in_scope(engine, scope).documents
    return [(one.id, one.version) for one in engine.documents(ids)]


def candidates_of(engine: ACREEngine, found: Sequence[LangChainDocument]) -> Candidates:
    """Find the documents that another retriever's come from; new text is read now.

    One stands for the engine's document that its `document_id` names, in its metadata, or its own
    id; else for its own text, which is found again by content. Blank ones are left out.
    """
    names = [name for one in found for name in (*_names(one), content_id(one.page_content))]
    metadata = {one.id: one.metadata for one in engine.documents(names)}
    ids: dict[str, None] = {}
    encoded = 0
    for one in found:
        stored = next((name for name in _names(one) if name in metadata), None)
        if stored is None and one.page_content.strip():
            stored = content_id(one.page_content)
            if stored not in metadata:
                # Passages that differ in metadata alone share this document: it has none.
                document = Document(id=stored, text=one.page_content)
                encoded += sum(done.encoded_tokens for done in engine.ingest(document))
            metadata[stored] = one.metadata
        if stored is not None:
            ids[stored] = None
    return Candidates(documents=list(ids), metadata=metadata, encoded_tokens=encoded)


def drop_contents(engine: ACREEngine) -> int:
    """Delete what was read for passages of other retrievers alone; how many were there?"""
    names = [one.id for one in engine.documents() if one.id.startswith(CONTENT_PREFIX)]
    return sum(engine.delete(name) for name in names)


def content_id(text: str) -> str:
    """Name a text by its content alone, so that the same text is read once."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{CONTENT_PREFIX}{digest[:32]}"


def _names(document: LangChainDocument) -> list[str]:
    named = document.metadata.get("document_id")
    return [name for name in (named, document.id) if isinstance(name, str)]


def _matches(metadata: Metadata, wanted: MetadataFilter) -> bool:
    if callable(wanted):
        return wanted(metadata)
    return all(name in metadata and metadata[name] == value for name, value in wanted.items())
