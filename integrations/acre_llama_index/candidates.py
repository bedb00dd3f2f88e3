"""Which stored documents a question may look into."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore
from llama_index.core.vector_stores import MetadataFilters
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

from acre_rag import ACREEngine, Document

# Documents under such ids hold the text of single nodes; they answer only where those are given.
CONTENT_PREFIX = "content:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Documents that a user has chosen.

    Attributes:
        documents: Their ids; `None` takes all that are stored.
        filters: Conditions on their metadata; all that are stored are held to them.
    """

    documents: tuple[str, ...] | None = None
    filters: MetadataFilters | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Documents that a question may look into.

    Attributes:
        documents: Their ids; `None` means all that are stored, if any.
        metadata: Of each document, by its id.
        origins: Nodes whose text was read as a document of its own, by that document's id.
        encoded_tokens: Tokens run through the model to store those.
    """

    documents: list[str] | None
    metadata: Mapping[str, Mapping[str, object]]
    origins: Mapping[str, BaseNode] = field(default_factory=dict)
    encoded_tokens: int = 0


def candidates_in_scope(engine: ACREEngine, scope: Scope) -> Candidates:
    """Find the documents that a user has chosen."""
    metadata = _stored_metadata(engine)
    own = [name for name in metadata if not name.startswith(CONTENT_PREFIX)]
    # None keeps the engine's own words for an empty store.
    ids = None if len(own) == len(metadata) else own
    if scope.documents is not None:
        ids = list(scope.documents)
    if scope.filters is not None:
        matches = build_metadata_filter_fn(lambda name: dict(metadata[name]), scope.filters)
        ids = [name for name in (own if ids is None else ids) if name in metadata and matches(name)]
    return Candidates(documents=ids, metadata=metadata)


def candidates_of_nodes(engine: ACREEngine, nodes: Sequence[NodeWithScore]) -> Candidates:
    """Find the documents that nodes come from; text that is not stored yet is read now.

    A node stands for its document where the engine has that, else for its own text. Nodes
    without text are left out.
    """
    metadata = _stored_metadata(engine)
    ids: dict[str, None] = {}
    origins: dict[str, BaseNode] = {}
    encoded = 0
    for found in nodes:
        node = found.node
        stored = next((i for i in (node.ref_doc_id, node.node_id) if i in metadata), None)
        text = node.get_content(MetadataMode.NONE)
        if stored is None and text.strip():
            stored = content_id(text)
            origins.setdefault(stored, node)
            if stored not in metadata:
                ingested = engine.ingest([Document(id=stored, text=text)])
                encoded += sum(one.encoded_tokens for one in ingested)
        if stored is not None:
            ids[stored] = None
    return Candidates(
        documents=list(ids), metadata=metadata, origins=origins, encoded_tokens=encoded
    )


def content_id(text: str) -> str:
    """Name a text by its content alone, so that the same text is read once."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{CONTENT_PREFIX}{digest[:32]}"


def _stored_metadata(engine: ACREEngine) -> dict[str, Mapping[str, object]]:
    return {document.id: document.metadata for document in engine.documents()}
