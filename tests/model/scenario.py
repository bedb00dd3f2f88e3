"""One reading of two documents and a question: ours, and the oracle's over all rows at once."""

from functools import cache

import numpy as np
import torch
from torch import Tensor

from acre_rag.cache import KVBlock
from acre_rag.model.decode import rotated_cache
from acre_rag.model.prefill import WindowCache
from acre_rag.model.reader import DocumentReader
from acre_rag.refill import splice
from tests.reference import forward
from tests.reference.rows import ReadDocument, Rows, Seen
from tests.tiny import tiny_adapter, tiny_local, tiny_settings

FIRST = [(7 * place + place**2) % 270 for place in range(31)]  # two segments, three windows
SECOND = [(5 * place + 3) % 270 for place in range(10)]  # one window, its last interval shorter
QUESTION = [17, 201, 64, 9, 130, 77]
CHOSEN = ({1, 4, 7}, {2})


class Scenario:
    """What the library makes of it, and what the oracle makes of it.

    Keys, values and queries are those before rotation, (layers, heads, rows, head_dim).
    """

    def __init__(self, family: str, dtype: torch.dtype, memory: str, kind: str) -> None:
        self.memory = memory
        self.local = tiny_local(family, dtype)
        adapter = tiny_adapter(self.local.model.config, kind) if memory == "landmarks" else None
        context = 40 if memory == "pooled" else None
        self.reader = DocumentReader(self.local, adapter, tiny_settings(context_tokens=context))
        self.ours = [self.read(FIRST), self.read(SECOND)]

        settings = self.reader.config
        self.rows = Rows(self.reader.frame.prefix_ids)
        self.documents: list[ReadDocument] = []
        for ids in (FIRST, SECOND):
            method = self.reader.method(len(ids))
            segment = len(ids) + 12 if method == "exact" else settings.segment_tokens
            self.documents.append(
                self.rows.document(
                    ids,
                    interval=settings.interval_tokens,
                    window=settings.window_tokens,
                    segment=segment // 12 * 12,
                    memory=method,
                )
            )
        everywhere = self.rows.spliced(self.documents, [set(), set()], landmarks=self.landmarks)
        self.asking = self.number(self.rows.follow(everywhere, QUESTION))
        kept = self.rows.spliced(self.documents, list(CHOSEN), landmarks=self.landmarks)
        self.answering = self.number(self.rows.follow(kept, QUESTION))
        bare = self.rows.spliced(self.documents, [set(), set()], landmarks=self.landmarks)
        self.answering_bare = self.number(self.rows.follow(bare, QUESTION))
        self.theirs = forward.run(self.local.model, self.rows.rows, adapter)

    @property
    def landmarks(self) -> bool:
        return self.memory == "landmarks"

    @staticmethod
    def number(seen: list[Seen]) -> list[int]:
        return [rows[0] for rows, _ in seen]

    def read(self, ids: list[int]) -> list[WindowCache]:
        layout = self.reader.layout(len(ids))
        found = self.reader.read(np.array(ids), layout, range(layout.windows), lambda _window: None)
        return [window for _, window in found]

    def l1(self, document: int) -> KVBlock:
        return KVBlock.concatenate([window.l1 for window in self.ours[document]])

    def l2(self, document: int) -> KVBlock:
        return KVBlock.concatenate([window.l2 for window in self.ours[document]])

    def spliced(self, chosen: tuple[set[int], ...]) -> KVBlock:
        """Prefix, landmarks and the chosen intervals of both documents, as the engine splices."""
        offset, l2, owners = 0, [], []
        for document, wanted in enumerate(chosen):
            for interval in sorted(wanted):
                places = torch.arange(4 * interval, min(4 * interval + 4, self.l2(document).tokens))
                l2.append(self.l2(document).take(places))
                owners += [offset + interval] * len(places)
            offset += self.l1(document).tokens
        if not self.landmarks:
            return KVBlock.concatenate([self.reader.prefix, *l2])
        landmarks, kept = [self.l1(0), self.l1(1)], torch.arange(offset)
        owned = torch.tensor(owners, dtype=torch.int64)
        return splice(self.reader.prefix, landmarks, kept, l2, owned).taken

    def logits(self, chosen: tuple[set[int], ...], ids: list[int]) -> Tensor:
        """Logits of the stock model behind our refilled cache, (rows, words)."""
        with torch.inference_mode():
            cache = rotated_cache(self.local, self.reader.twin, self.spliced(chosen))
            return self.local.model(torch.tensor([ids]), past_key_values=cache).logits[0]


@cache
def scenario(
    family: str, dtype: torch.dtype, memory: str = "landmarks", kind: str = "low-rank"
) -> Scenario:
    """Make a scenario once for all tests."""
    return Scenario(family, dtype, memory, kind)


def distance(found: Tensor, expected: Tensor) -> float:
    """Size of the difference, relative to the size of what was expected."""
    found, expected = found.float(), expected.float()
    assert found.shape == expected.shape
    return float((found - expected).norm() / expected.norm())
