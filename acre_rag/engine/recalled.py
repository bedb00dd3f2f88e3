"""The documents of one question, as far as they are in memory."""

from collections.abc import Mapping, Sequence
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
        l1: Landmarks, not rotated, in the model's dtype and on its device.
        encoded: Blocks that were encoded again for this question, by name; empty where they are
            to come from the store.
    """

    manifest: Manifest
    layout: Layout
    l1: KVBlock
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


def token_intervals(document: RecalledDocument, intervals: Sequence[int]) -> torch.Tensor:
    """Interval of each raw token of some intervals, in order, (tokens,), int64."""
    lengths = [len(document.layout.interval_tokens_of(interval)) for interval in intervals]
    return torch.repeat_interleave(torch.tensor(intervals), torch.tensor(lengths))
