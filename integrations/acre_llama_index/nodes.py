"""Sources as the framework's nodes, with exact places in their documents."""

from collections.abc import Callable, Mapping, Sequence

from llama_index.core.schema import (
    BaseNode,
    MetadataMode,
    NodeRelationship,
    NodeWithScore,
    ObjectType,
    RelatedNodeInfo,
    TextNode,
)

from acre_rag import Source


def source_nodes(
    sources: Sequence[Source],
    metadata: Mapping[str, Mapping[str, object]],
    find_origin: Callable[[str], BaseNode | None],
) -> list[NodeWithScore]:
    """Turn sources into nodes, the best-scoring first.

    Args:
        sources: Where the model looked.
        metadata: Of each document, by its id.
        find_origin: Finds the node that was read as a document, by the document's id.
    """
    origins = {name: find_origin(name) for name in {source.document for source in sources}}
    nodes = []
    for source in sources:
        origin = origins[source.document]
        if origin is None:
            nodes.append(_of_document(source, metadata.get(source.document, {})))
        else:
            nodes.append(_of_node(source, origin))
    return sorted(nodes, key=lambda node: -(node.score or 0.0))


def _of_document(source: Source, metadata: Mapping[str, object]) -> NodeWithScore:
    document = RelatedNodeInfo(
        node_id=source.document, node_type=ObjectType.DOCUMENT, metadata=dict(metadata)
    )
    return _node(source, document, start=source.start, metadata=metadata)


def _of_node(source: Source, origin: BaseNode) -> NodeWithScore:
    """Place a source in the document that its node was cut from, or else in the node."""
    start = getattr(origin, "start_char_idx", None)
    end = getattr(origin, "end_char_idx", None)
    length = len(origin.get_content(MetadataMode.NONE))
    # A splitter may have changed white space; places in the document are then unknown.
    if origin.source_node is not None and start is not None and end == start + length:
        found = _node(
            source, origin.source_node, start=start + source.start, metadata=origin.metadata
        )
        found.node.relationships[NodeRelationship.PARENT] = origin.as_related_node_info()
        return found
    return _node(
        source, origin.as_related_node_info(), start=source.start, metadata=origin.metadata
    )


def _node(
    source: Source, document: RelatedNodeInfo, *, start: int, metadata: Mapping[str, object]
) -> NodeWithScore:
    end = start + len(source.text)
    node = TextNode(
        # The same place is the same node, so that rankings of several retrievers can be fused.
        id_=f"{document.node_id}:{start}-{end}",
        text=source.text,
        start_char_idx=start,
        end_char_idx=end,
        metadata=dict(metadata),
        relationships={NodeRelationship.SOURCE: document},
    )
    return NodeWithScore(node=node, score=source.score)
