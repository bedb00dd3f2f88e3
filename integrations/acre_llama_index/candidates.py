"""Which stored documents a question may look into."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore
from llama_index.core.vector_stores import MetadataFilters
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

from acre_rag import ACREEngine, Document

# Documents under such ids hold the text of single nodes; they answer only where those are given.
CONTENT_PREFIX = "content:"


FindNode = Callable[[str], BaseNode | None]


def no_node(_document_id: str) -> BaseNode | None:
    """Find the node behind a document that was never one."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Documents that a user has chosen.

    Attributes:
        documents: Their ids; `None` takes all that are stored.
        filters: Conditions on their metadata.
        find_node: Finds the node that was read as a document, by the document's id; a document
            that is gone from the store is read from it again.
    """

    documents: tuple[str, ...] | None = None
    filters: MetadataFilters | None = None
    find_node: FindNode = no_node


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Documents that a question may look into.

    Attributes:
        documents: Their ids; `None` means all that are stored, if any.
        metadata: Of each document, by its id.
        find_node: Finds the node that was read as a document, by the document's id.
        encoded_tokens: Tokens run through the model to store what was not.
    """

    documents: list[str] | None
    metadata: Mapping[str, Mapping[str, object]]
    find_node: FindNode
    encoded_tokens: int


def candidates_in_scope(engine: ACREEngine, scope: Scope) -> Candidates:
    """Find the documents that a user has chosen; those that have a node are stored if need be."""
    metadata = _stored_metadata(engine, scope.documents)
    encoded = 0
    if scope.documents is not None:
        ids: list[str] | None = list(scope.documents)
        for name in scope.documents:
            node = None if name in metadata else scope.find_node(name)
            if node is not None:
                encoded += _read(engine, as_document(name, node))
                metadata[name] = node.metadata
    else:
        own = [name for name in metadata if not name.startswith(CONTENT_PREFIX)]
        # None keeps the engine's own words for an empty store.
        ids = None if len(own) == len(metadata) else own
    if scope.filters is not None:
        matches = build_metadata_filter_fn(lambda name: dict(metadata[name]), scope.filters)
        known = list(metadata) if ids is None else [name for name in ids if name in metadata]
        ids = [name for name in known if matches(name)]
    return Candidates(
        documents=ids, metadata=metadata, find_node=scope.find_node, encoded_tokens=encoded
    )


def candidates_of_nodes(engine: ACREEngine, nodes: Sequence[NodeWithScore]) -> Candidates:
    """Find the documents that nodes come from; text that is not stored yet is read now.

    A node stands for its document where the engine has that, else for its own text. Nodes
    without text are left out.
    """
    asked = [name for found in nodes for name in (*_names(found.node), _own_id(found.node))]
    metadata = _stored_metadata(engine, asked)
    ids: dict[str, None] = {}
    origins: dict[str, BaseNode] = {}
    encoded = 0
    for found in nodes:
        node = found.node
        stored = next((name for name in _names(node) if name in metadata), None)
        if stored is None and has_text(node):
            text = node.get_content(MetadataMode.NONE)
            stored = content_id(text)
            if stored not in metadata and stored not in origins:
                # Nodes that differ in metadata alone share this document: it has none.
                encoded += _read(engine, Document(id=stored, text=text))
            origins.setdefault(stored, node)
        if stored is not None:
            ids[stored] = None
    return Candidates(
        documents=list(ids), metadata=metadata, find_node=origins.get, encoded_tokens=encoded
    )


def drop_contents(engine: ACREEngine) -> int:
    """Delete all documents that hold the text of single nodes; returns how many there were."""
    names = [document.id for document in engine.documents()]
    return sum(engine.delete(name) for name in names if name.startswith(CONTENT_PREFIX))


def _names(node: BaseNode) -> list[str]:
    """Ids that what a node was cut from may be stored under, the nearest first."""
    parent = node.parent_node.node_id if node.parent_node is not None else None
    return [name for name in (parent, node.ref_doc_id, node.node_id) if name is not None]


def has_text(node: BaseNode) -> bool:
    """Tell whether there is anything in a node to read."""
    return bool(node.get_content(MetadataMode.NONE).strip())


def as_document(document_id: str, node: BaseNode) -> Document:
    """Make a node's own text and metadata a document to be read."""
    text = node.get_content(MetadataMode.NONE)
    return Document(id=document_id, text=text, metadata=node.metadata)


def _own_id(node: BaseNode) -> str:
    return content_id(node.get_content(MetadataMode.NONE))


def content_id(text: str) -> str:
    """Name a text by its content alone, so that the same text is read once."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{CONTENT_PREFIX}{digest[:32]}"


def _read(engine: ACREEngine, document: Document) -> int:
    return sum(one.encoded_tokens for one in engine.ingest([document]))


def _stored_metadata(
    engine: ACREEngine, ids: Sequence[str] | None
) -> dict[str, Mapping[str, object]]:
    return {document.id: document.metadata for document in engine.documents(ids)}
