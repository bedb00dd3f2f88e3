"""A document that is asked: read once in each way, however many questions and methods follow."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from acre_rag.cache import KVBlock
from acre_rag.cache.quantized import QUANTIZED
from acre_rag.cache.stored import loaded, stored_bytes, stored_form
from acre_rag.engine.blocks import BlockPlan
from acre_rag.engine.ingest import intervals_per_block
from acre_rag.evaluate.composing import ComposedDocument
from acre_rag.model.prompt import QuestionRows
from acre_rag.model.reader import DocumentReader
from acre_rag.refill import mixture_scores, published_scores
from acre_rag.text.layout import Layout
from acre_rag.text.tokens import interval_characters

_QUESTIONS_AT_ONCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Scores of all intervals for one question, each adding up to 1, float32, (intervals,).

    Attributes:
        learned: By the adapter's weights, or the calibrated heads of the training-free mode.
        published: By ACRE's published rule.
    """

    learned: Tensor
    published: Tensor


class ReadDocument:
    """Keys and values of a document as one reader makes them, and what questions score in it.

    Args:
        reader: Model, adapter and settings.
        document: What is read.
        rows: Token ids that follow it, for each of its questions.
    """

    def __init__(
        self, reader: DocumentReader, document: ComposedDocument, rows: Sequence[QuestionRows]
    ) -> None:
        self.reader = reader
        self.layout: Layout = reader.layout(len(document.tokens.ids))
        self._document = document
        self._rows = rows

    @cached_property
    def _read(self) -> tuple[KVBlock, KVBlock]:
        ids, windows = self._document.tokens.ids, range(self.layout.windows)
        known: dict[int, KVBlock] = {}
        parts = [w for _, w in self.reader.read(ids, self.layout, windows, known.get)]
        l2 = KVBlock.concatenate([part.l2 for part in parts])
        form = self.reader.config.stored_dtype
        return (
            KVBlock.concatenate([part.l1 for part in parts]),
            as_stored(l2, self.layout, form) if form in QUANTIZED else l2,
        )

    @property
    def l1(self) -> KVBlock:
        """Landmarks, or pooled intervals, not rotated."""
        return self._read[0]

    @property
    def l2(self) -> KVBlock:
        """Raw tokens, not rotated."""
        return self._read[1]

    @cached_property
    def characters(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First character of every interval, and the one after its last."""
        return interval_characters(self._document.tokens, self.layout)

    @cached_property
    def scores(self) -> list[Scores]:
        """Scores for each question."""
        segments = [self.layout.segment_intervals(s) for s in range(self.layout.segments)]
        blocks = [self.l1.slice(span.start, span.stop) for span in segments]
        found: list[Scores] = []
        for start in range(0, len(self._rows), _QUESTIONS_AT_ONCE):
            rows = self._rows[start : start + _QUESTIONS_AT_ONCE]
            asked = self.reader.queries(rows, blocks)
            found.extend(
                _score(self.reader, queries, blocks, own)
                for queries, own in zip(asked, rows, strict=True)
            )
        return found


def as_stored(l2: KVBlock, layout: Layout, form: str) -> KVBlock:
    """Take the raw tokens of a document through a form, block by block, as a store would."""
    layers, kv_heads, _, head_dim = l2.shape
    interval_bytes = stored_bytes(form, (layers, kv_heads, layout.interval_tokens, head_dim))
    plan = BlockPlan(layout, intervals_per_block(layout, interval_bytes))
    spans = [plan.block_tokens(block) for block in plan.blocks_of(range(layout.intervals))]
    blocks = [stored_form(l2.slice(span.start, span.stop), form) for span in spans]
    return loaded(blocks, dtype=l2.keys.dtype, device=l2.keys.device)


def _score(
    reader: DocumentReader, queries: list[Tensor], blocks: Sequence[KVBlock], rows: QuestionRows
) -> Scores:
    keys = [block.keys for block in blocks]
    scaling = reader.twin.shape.scaling
    with torch.inference_mode():
        published = published_scores(queries, keys, scaling)
        if reader.selection is None:
            return Scores(learned=published.cpu(), published=published.cpu())
        learned = mixture_scores(
            queries,
            keys,
            groups=rows.groups(reader.question_landmarks),
            weights=reader.selection,
            scaling=scaling,
        )
    return Scores(learned=learned.cpu(), published=published.cpu())


class OpenDocument:
    """A document, its questions, and everything that was read of it so far.

    Args:
        document: What is asked about.
        free: Reads in the training-free mode, and plainly.
        trained: Reads with landmarks; `None` where there is no adapter.
        max_new_tokens: Longest answer, which must find room.
        instructions: Follow each question in place of the prompt's own.
    """

    def __init__(
        self,
        document: ComposedDocument,
        *,
        free: DocumentReader,
        trained: DocumentReader | None,
        max_new_tokens: int,
        instructions: str | None = None,
    ) -> None:
        self.document = document
        self.reader = free
        self.max_new_tokens = max_new_tokens
        self.instructions = instructions
        self.rows = [
            free.frame.question_rows(question.text, instructions) for question in document.questions
        ]
        self.free = ReadDocument(free, document, self.rows)
        self.trained = ReadDocument(trained, document, self.rows) if trained else None

    @property
    def answer_room(self) -> int:
        """Tokens of the context that stay for prefix and document, whatever the question."""
        longest = max(len(own.ids) for own in self.rows)
        return self.reader.context_tokens - longest - self.max_new_tokens

    @cached_property
    def plain_places(self) -> NDArray[np.int64]:
        """Tokens that a plain prefill reads: all, or both ends where the context is too short."""
        tokens = len(self.document.tokens.ids)
        room = self.answer_room - self.reader.prefix.tokens
        if tokens <= room:
            return np.arange(tokens)
        head = -(-room // 2)
        return np.concatenate([np.arange(head), np.arange(tokens - (room - head), tokens)])

    @cached_property
    def plain(self) -> KVBlock:
        """Prefix and document, plainly read in one pass, not rotated."""
        return self.read_plainly()

    def read_plainly(self) -> KVBlock:
        """Read prefix and document in one pass, as the untouched model would."""
        twin, prefix = self.reader.twin, self.reader.prefix
        ids = torch.from_numpy(self.document.tokens.ids[self.plain_places])
        with self.reader.local.lock, torch.inference_mode():
            reading = twin.read(
                twin.embed(ids[None].to(self.reader.local.device)),
                memory=twin.remember(prefix.keys[:, None], prefix.values[:, None]),
            )
        own = KVBlock(reading.keys[:, 0], reading.values[:, 0])
        return KVBlock.concatenate([prefix, own])
