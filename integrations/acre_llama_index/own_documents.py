"""The documents of one index, in a store that other indexes use too."""

from collections.abc import Mapping, MutableMapping, Sequence

from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores import MetadataFilters

from acre_llama_index.candidates import Candidates, matching, read
from acre_llama_index.nodes import FindNode, as_document, as_passage, has_text, text_of
from acre_rag import ACREEngine, ACREError, Document


class OwnDocuments:
    """What an index has read: each node a document, under the node's id.

    Ids are names that anyone may give. Where a store has another text under one, this index reads
    its own again, as a passage, and leaves the other where it is.

    Args:
        engine: Reads, and stores.
        contents: By node id, the id that its text has as a passage; what the index keeps.
        find_node: Finds a node in the framework's document store.
    """

    def __init__(
        self,
        engine: ACREEngine,
        contents: MutableMapping[str, str],
        find_node: FindNode,
    ) -> None:
        self._engine = engine
        self._contents = contents
        self._find_node = find_node

    def keep(self, node: BaseNode) -> None:
        """Take a node that was read for one of the index; a blank one is no longer."""
        if not has_text(node):
            self.drop(node.node_id)
            return
        old, new = self._contents.get(node.node_id), Document.passage(text_of(node)).id
        self._contents[node.node_id] = new
        if old is not None and old != new:
            self._engine.delete(old)

    def drop(self, node_id: str) -> None:
        """Forget a node, and delete its text from the store; another text of that id stays."""
        own = self._contents.pop(node_id, None)
        if own is None:
            return
        if any(one.content_id == own for one in self._engine.documents([node_id])):
            self._engine.delete(node_id)
        self._engine.delete(own)  # where it was read as a passage

    def candidates(self, node_ids: Sequence[str], filters: MetadataFilters | None) -> Candidates:
        """Find where some nodes are stored; those that are not are read again.

        Raises:
            ACREError: The text of a node is neither in the store nor in the document store.
        """
        names = list(node_ids)
        if filters is not None:
            names = list(matching({name: self._metadata(name) for name in names}, filters))
        stored = {one.id: one.content_id for one in self._engine.documents(names)}
        asked: dict[str, str] = {}
        encoded = 0
        for name in names:
            document_id, read_again = name, 0
            if stored.get(name) != self._contents[name]:
                document_id, read_again = self._read_again(name, stored.get(name))
            asked[document_id] = name
            encoded += read_again
        return Candidates(
            documents=list(asked),
            find_node=lambda document_id: self._find_node(asked[document_id]),
            encoded_tokens=encoded,
        )

    def _read_again(self, name: str, stored: str | None) -> tuple[str, int]:
        """Store a node whose cache is gone, or whose id another text has taken."""
        node = self._find_node(name)
        if node is None:
            raise ACREError(
                f"the cache of node {name!r} is gone or another text's, and its own text is not "
                "in the document store; expected it in one of the two: insert its document again"
            )
        if stored is None:
            return name, read(self._engine, as_document(node))
        passage = as_passage(node)
        if stored == passage.id:
            return name, 0
        known = any(
            one.metadata == passage.metadata for one in self._engine.documents([passage.id])
        )
        return passage.id, 0 if known else read(self._engine, passage)

    def _metadata(self, name: str) -> Mapping[str, object]:
        node = self._find_node(name)
        return node.metadata if node is not None else {}
