"""What an index keeps of itself, so that it can be loaded again."""

from dataclasses import dataclass, field

from llama_index.core.data_structs.data_structs import IndexStruct
from llama_index.core.data_structs.registry import INDEX_STRUCT_TYPE_TO_INDEX_STRUCT_CLASS

STRUCT_TYPE = "acre"


@dataclass
class ACREIndexStruct(IndexStruct):
    """What an index keeps of itself.

    Attributes:
        contents: By the id of each node that was read, in order, the id that its text has as a
            passage: tells whether what a store has under the node's id is this text.
    """

    contents: dict[str, str] = field(default_factory=dict)

    @classmethod
    def get_type(cls) -> str:  # type: ignore[override]  # the base class lists its own kinds
        """Name the kind of index that this is of."""
        return STRUCT_TYPE


# The registry is keyed by the kinds that the framework lists.
INDEX_STRUCT_TYPE_TO_INDEX_STRUCT_CLASS[STRUCT_TYPE] = ACREIndexStruct  # type: ignore[index]
