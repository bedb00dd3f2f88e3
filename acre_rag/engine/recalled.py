"""The documents of one question, as far as they are in memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from acre_rag.cache import KVBlock, StoredBlock
from acre_rag.engine.ledger import Ledger
from acre_rag.store.manifest import Manifest
from acre_rag.text.layout import Layout


@dataclass(frozen=True, slots=True)
class RecalledDocument:
    """A stored document, its landmarks in memory.

    Attributes:
        manifest: What it consists of.
        layout: Where its intervals, windows and segments lie.
        landmarks: L1 of each segment, not rotated, in the model's dtype, on the host: a GPU's
            memory is for what a question needs of them while it needs it.
        encoded: Blocks that were encoded again for this question, by name; empty where they are
            to come from the store.
    """

    manifest: Manifest
    layout: Layout
    landmarks: tuple[KVBlock, ...]
    encoded: Mapping[str, StoredBlock] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recalled:
    """The documents of one question.

    Attributes:
        documents: In the order asked.
        ledger: Costs, counted on.
    """

    documents: tuple[RecalledDocument, ...]
    ledger: Ledger

    def interval_lengths(self) -> torch.Tensor:
        """Raw tokens of each interval, through all documents, (intervals,), int64."""
        return torch.cat([_interval_lengths(document.layout) for document in self.documents])


def _interval_lengths(layout: Layout) -> torch.Tensor:
    lengths = torch.full((layout.intervals,), layout.interval_tokens)
    lengths[-1] = layout.tokens - (layout.intervals - 1) * layout.interval_tokens
    return lengths
