"""Which stored documents a question may look into."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from langchain_core.documents import Document as LangChainDocument
from pydantic import Field

from acre_rag import ACREEngine, ACREError, Document, StoredDocument

Metadata: TypeAlias = Mapping[str, object]
RefillTokens: TypeAlias = Annotated[int, Field(ge=0, strict=True)] | Literal["auto"] | None
MetadataFilter: TypeAlias = dict[str, object] | Callable[[Metadata], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Documents that a user has chosen.

    Attributes:
        documents: Their ids; `None` takes all that are stored, passages left out.
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
    """Find the documents that a user has chosen.

    Raises:
        ACREError: One that is named is not stored.
    """
    chosen: list[Document | StoredDocument]
    if scope.documents is not None:
        chosen = [engine.document(name) for name in scope.documents]
    else:
        chosen = [one for one in engine.documents() if not one.is_passage]
    metadata = {one.id: one.metadata for one in chosen}
    if scope.filter is not None:
        ids = [name for name, known in metadata.items() if _matches(known, scope.filter)]
        return Candidates(documents=ids, metadata=metadata)
    named = list(scope.documents) if scope.documents is not None else None
    return Candidates(documents=named, metadata=metadata)


def versions_in_scope(engine: ACREEngine, scope: Scope) -> list[tuple[str, str]]:
    """Name the documents that a user has chosen, and what they hold, as they are stored now."""
    ids = candidates_in_scope(engine, scope).documents
    stored = engine.documents(ids)
    return [(one.id, one.version) for one in stored if ids is not None or not one.is_passage]


def candidates_of(engine: ACREEngine, found: Sequence[LangChainDocument]) -> Candidates:
    """Find the documents that another retriever's come from; new text is read now.

    One stands for the engine's document that its `document_id` names, in its metadata, or its own
    id; else for its own text, a passage. Blank ones are left out.

    Raises:
        ACREError: What was found is no list of documents.
    """
    _check(found)
    passages = [
        Document.passage(one.page_content) if one.page_content.strip() else None for one in found
    ]
    names = [name for one in found for name in _names(one)]
    names += [passage.id for passage in passages if passage is not None]
    stored = {one.id: one.metadata for one in engine.documents(names)}
    metadata: dict[str, Metadata] = {}
    new: dict[str, Document] = {}
    for one, passage in zip(found, passages, strict=True):
        name = next((name for name in _names(one) if name in stored), None)
        if name is not None:
            metadata[name] = stored[name]
        elif passage is not None:
            # Passages that differ in metadata alone are one document: it has none.
            metadata.setdefault(passage.id, one.metadata)
            if passage.id not in stored:
                new[passage.id] = passage
    encoded = sum(done.encoded_tokens for done in engine.ingest(new.values()))
    return Candidates(documents=list(metadata), metadata=metadata, encoded_tokens=encoded)


def drop_passages(engine: ACREEngine) -> int:
    """Delete what was read for passages alone; how many were there?"""
    names = [one.id for one in engine.documents() if one.is_passage]
    return sum(engine.delete(name) for name in names)


def _check(found: object) -> None:
    if isinstance(found, list | tuple):
        wrong = [one for one in found if not isinstance(one, LangChainDocument)]
    else:
        wrong = [found]
    if wrong:
        raise ACREError(
            f"the retriever gave a {type(wrong[0]).__name__}; "
            "expected a list of documents: turn what it gives into [Document(page_content=...)]"
        )


def _names(document: LangChainDocument) -> list[str]:
    named = document.metadata.get("document_id")
    return [name for name in (named, document.id) if isinstance(name, str)]


def _matches(metadata: Metadata, wanted: MetadataFilter) -> bool:
    if callable(wanted):
        return wanted(metadata)
    return all(name in metadata and metadata[name] == value for name, value in wanted.items())
