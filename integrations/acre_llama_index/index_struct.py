"""What an index keeps of itself, so that it can be loaded again."""

from dataclasses import dataclass, field

from llama_index.core.data_structs.data_structs import IndexStruct
from llama_index.core.data_structs.registry import INDEX_STRUCT_TYPE_TO_INDEX_STRUCT_CLASS

STRUCT_TYPE = "acre"


@dataclass
class ACREIndexStruct(IndexStruct):
    """What an index keeps of itself.

    Attributes:
        node_ids: Nodes that were read, in order; the engine has each as a document of that id.
    """

    node_ids: list[str] = field(default_factory=list)

    @classmethod
    def get_type(cls) -> str:  # type: ignore[override]  # the base class lists its own kinds
        """Name the kind of index that this is of."""
        return STRUCT_TYPE


INDEX_STRUCT_TYPE_TO_INDEX_STRUCT_CLASS[STRUCT_TYPE] = ACREIndexStruct  # type: ignore[index]
