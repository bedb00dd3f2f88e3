"""Nodes as documents, and sources as nodes, with exact places in what they were cut from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from llama_index.core.schema import (
    BaseNode,
    MetadataMode,
    NodeRelationship,
    NodeWithScore,
    ObjectType,
    RelatedNodeInfo,
    TextNode,
)

from acre_rag import Document, Source

FindNode: TypeAlias = Callable[[str], BaseNode | None]

# Where a part's document says what it was cut from, as the framework's vector stores do.
SOURCE_KEY = "ref_doc_id"
START_KEY = "start_char_idx"


def text_of(node: BaseNode) -> str:
    """Give a node's text as it is, no metadata around it."""
    return node.get_content(MetadataMode.NONE)


def has_text(node: BaseNode) -> bool:
    """Tell whether there is anything in a node to read."""
    return bool(text_of(node).strip())


def as_document(node: BaseNode) -> Document:
    """Make a node's own text and metadata a document to be read, under the node's id."""
    metadata = dict(node.metadata)
    if node.ref_doc_id not in (None, node.node_id):
        metadata[SOURCE_KEY] = node.ref_doc_id
        start = _start(node)
        if start is not None:
            metadata[START_KEY] = start
    return Document(id=node.node_id, text=text_of(node), metadata=metadata)


def as_passage(node: BaseNode) -> Document:
    """Make a node a passage, which names what the node was cut from as a part's document does."""
    metadata = dict(as_document(node).metadata)
    if START_KEY not in metadata:
        metadata |= {SOURCE_KEY: node.node_id, START_KEY: 0}
    return replace(Document.passage(text_of(node)), metadata=metadata)


def source_nodes(
    sources: Sequence[Source],
    metadata: Mapping[str, Mapping[str, object]],
    find_node: FindNode,
) -> list[NodeWithScore]:
    """Turn sources into nodes, the best-scoring first.

    Args:
        sources: Where the model looked.
        metadata: Of stored documents, by their ids.
        find_node: Finds the node that was read as a document, by the document's id.
    """
    origins = {name: find_node(name) for name in {source.document for source in sources}}
    nodes = []
    for source in sources:
        origin = origins[source.document]
        if origin is None:
            nodes.append(_of_document(source, metadata.get(source.document, {})))
        else:
            nodes.append(_of_node(source, origin))
    return sorted(nodes, key=lambda node: -(node.score or 0.0))


def _of_document(source: Source, metadata: Mapping[str, object]) -> NodeWithScore:
    whole, start = metadata.get(SOURCE_KEY), metadata.get(START_KEY)
    if not (isinstance(whole, str) and isinstance(start, int)):
        whole, start = source.document, 0
    shown = {k: v for k, v in metadata.items() if k not in (SOURCE_KEY, START_KEY)}
    document = RelatedNodeInfo(node_id=whole, node_type=ObjectType.DOCUMENT, metadata=shown)
    return _node(source, document, start=start + source.start, metadata=shown)


def _of_node(source: Source, origin: BaseNode) -> NodeWithScore:
    """Place a source in the document that its node was cut from, or else in the node."""
    start = _start(origin)
    document = origin.source_node
    if document is None or start is None:
        document, start = origin.as_related_node_info(), 0
    return _node(source, document, start=start + source.start, metadata=origin.metadata)


def _start(node: BaseNode) -> int | None:
    """Find where a part starts in its document; a splitter may have changed its white space."""
    start = getattr(node, "start_char_idx", None)
    end = getattr(node, "end_char_idx", None)
    length = len(text_of(node))
    return start if start is not None and end == start + length else None


def _node(
    source: Source, document: RelatedNodeInfo, *, start: int, metadata: Mapping[str, object]
) -> NodeWithScore:
    end = start + len(source.text)
    relationships = {NodeRelationship.SOURCE: document}
    if source.document != document.node_id:
        # Names the cache, so that an engine behind a retriever asks this very text.
        relationships[NodeRelationship.PARENT] = RelatedNodeInfo(node_id=source.document)
    node = TextNode(
        # The same place is the same node, so that rankings of several retrievers can be fused.
        id_=f"{document.node_id}:{start}-{end}",
        text=source.text,
        start_char_idx=start,
        end_char_idx=end,
        metadata=dict(metadata),
        relationships=dict(relationships),
    )
    return NodeWithScore(node=node, score=source.score)
