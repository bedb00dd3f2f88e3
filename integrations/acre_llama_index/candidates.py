"""Which stored documents a question may look into."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from llama_index.core.schema import BaseNode, NodeWithScore
from llama_index.core.vector_stores import MetadataFilters
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

from acre_llama_index.nodes import FindNode, has_text, text_of
from acre_rag import ACREEngine, Document


def no_node(_document_id: str) -> BaseNode | None:
    """Find the node behind a document that was never one."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Documents that a question may look into.

    Attributes:
        documents: Their ids; `None` means all that are stored, if any.
        metadata: Of stored documents, by their ids.
        find_node: Finds the node that was read as a document, by the document's id.
        encoded_tokens: Tokens run through the model to store what was not.
    """

    documents: list[str] | None
    metadata: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    find_node: FindNode = no_node
    encoded_tokens: int = 0


def stored_candidates(
    engine: ACREEngine, documents: Sequence[str] | None, filters: MetadataFilters | None
) -> Candidates:
    """Find stored documents by id and metadata.

    Args:
        engine: What has read them.
        documents: Their ids; `None` takes all that are stored, passages left out.
        filters: Conditions on their metadata; one that is not stored is kept, to be reported.
    """
    every = documents is None
    stored = [one for one in engine.documents(documents) if not (every and one.is_passage)]
    metadata = {one.id: one.metadata for one in stored}
    ids = None if documents is None else list(documents)
    if filters is not None:
        names = list(metadata) if ids is None else ids
        missing = [name for name in names if name not in metadata]
        ids = [*matching(metadata, filters), *missing]
    return Candidates(documents=ids, metadata=metadata)


def candidates_of_nodes(engine: ACREEngine, found: Sequence[NodeWithScore]) -> Candidates:
    """Find the documents that nodes come from; text that is not stored yet is read now.

    A node stands for its document where the engine has that, else for its own text, which is read
    as a passage. Nodes without text are left out.
    """
    given = [one.node for one in found]
    metadata = _metadata(engine, [name for node in given for name in _names(node)])
    stored_as = [next((name for name in _names(node) if name in metadata), None) for node in given]
    passages = {
        place: Document.passage(text_of(node))
        for place, node in enumerate(given)
        if stored_as[place] is None and has_text(node)
    }
    known = set(_metadata(engine, [passage.id for passage in passages.values()]))
    nodes: dict[str, BaseNode] = {}
    encoded = 0
    for place, passage in passages.items():
        stored_as[place] = passage.id
        # Nodes that differ in metadata alone share a passage: it has none.
        nodes.setdefault(passage.id, given[place])
        if passage.id not in known:
            encoded += read(engine, passage)
            known.add(passage.id)
    ids = list(dict.fromkeys(name for name in stored_as if name is not None))
    return Candidates(documents=ids, metadata=metadata, find_node=nodes.get, encoded_tokens=encoded)


def matching(
    metadata: Mapping[str, Mapping[str, object]], filters: MetadataFilters
) -> Collection[str]:
    """Name what has metadata that filters let through."""
    matches: Callable[[str], bool] = build_metadata_filter_fn(
        lambda name: dict(metadata[name]), filters
    )
    return [name for name in metadata if matches(name)]


def read(engine: ACREEngine, document: Document) -> int:
    """Store one document; returns the tokens that were run through the model for it."""
    return sum(one.encoded_tokens for one in engine.ingest(document))


def drop_passages(engine: ACREEngine) -> int:
    """Delete all passages; returns how many there were."""
    names = [one.id for one in engine.documents() if one.is_passage]
    return sum(map(engine.delete, names))


def _names(node: BaseNode) -> list[str]:
    """Ids that what a node was cut from may be stored under, the nearest first."""
    parent = node.parent_node.node_id if node.parent_node is not None else None
    return [name for name in (parent, node.ref_doc_id, node.node_id) if name is not None]


def _metadata(engine: ACREEngine, ids: Sequence[str]) -> dict[str, Mapping[str, object]]:
    return {one.id: one.metadata for one in engine.documents(ids)}
