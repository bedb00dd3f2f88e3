"""Documents as nodes, unsplit: a cache is made of a whole document."""

from collections.abc import Sequence

from llama_index.core.schema import BaseNode, NodeRelationship, TransformComponent


class WholeDocuments(TransformComponent):
    """Makes each document a node that names itself as its source."""

    @classmethod
    def class_name(cls) -> str:
        """Name the class as the framework's serialization wants it."""
        return "WholeDocuments"

    def __call__(self, nodes: Sequence[BaseNode], **_unused: object) -> list[BaseNode]:
        """Copy nodes, giving those without a source themselves as one."""
        return [_with_source(node) for node in nodes]


def _with_source(node: BaseNode) -> BaseNode:
    if node.source_node is not None:
        return node
    copy = node.model_copy()
    # Its id stays, so that a retriever's nodes of this document find its cache.
    copy.relationships = {
        **node.relationships,
        NodeRelationship.SOURCE: node.as_related_node_info(),
    }
    return copy
