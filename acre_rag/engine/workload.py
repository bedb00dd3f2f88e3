"""What there is to do for a question, counted from the manifests alone."""

from dataclasses import dataclass

from acre_rag.cache.stored import plain_form, stored_bytes
from acre_rag.cost import Workload
from acre_rag.engine.blocks import BlockPlan
from acre_rag.engine.recall import Recall
from acre_rag.model.prompt import QuestionRows
from acre_rag.model.reader import DocumentReader
from acre_rag.refill.budget import plan_refill
from acre_rag.request import Request
from acre_rag.store.manifest import Manifest
from acre_rag.text.layout import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A question and its documents, nothing of their caches being loaded.

    Attributes:
        manifests: Documents asked, in that order.
        rows: Token ids that follow them.
        free_tokens: Context left beside prefix, question and answer.
        started: When the question came, in seconds of `time.perf_counter`.
    """

    manifests: tuple[Manifest, ...]
    rows: QuestionRows
    free_tokens: int
    started: float


def workload_of(found: Found, request: Request, reader: DocumentReader, recall: Recall) -> Workload:
    """Count what there is to do for a question, whichever plan it follows.

    Raises:
        BudgetError: The refill asked for does not fit the context.
    """
    documents = found.manifests
    layouts = [reader.layout(manifest.tokens) for manifest in documents]
    tokens = sum(manifest.tokens for manifest in documents)
    landmarks = sum(layout.intervals for layout in layouts)
    interval, most = reader.config.interval_tokens, reader.most_landmarks
    asked = request.refill_tokens
    refill = plan_refill(
        free_tokens=found.free_tokens,
        document_tokens=tokens,
        intervals=landmarks,
        interval_tokens=interval,
        most_landmarks=most,
        refill_tokens=None if asked == "auto" else asked,
    )
    kept = 0
    if most is not None:
        kept = min(-(-refill // interval) + most, landmarks, found.free_tokens - refill)
    away = [one for one in documents if not recall.remembers(one)]
    share = refill / tokens
    l2 = [_expected_reads(m, layout, share) for m, layout in zip(documents, layouts, strict=True)]
    exact = [one.tokens for one in documents if reader.method(one.tokens) == "exact"]
    return Workload(
        document_tokens=tokens,
        prefix_tokens=reader.prefix.tokens,
        question_tokens=len(found.rows.ids),
        landmarks=landmarks,
        kept_landmarks=kept,
        refill_tokens=refill,
        l1_values=sum(reader.layout(one.tokens).windows for one in away),
        l1_bytes=sum(map(_l1_bytes, away)),
        l2_values=round(sum(values for values, _ in l2)),
        l2_bytes=round(sum(size for _, size in l2)),
        exact_pairs=sum(count**2 for count in exact),
        free_tokens=found.free_tokens,
    )


def _l1_bytes(manifest: Manifest) -> int:
    shape = (manifest.layers, manifest.kv_heads, manifest.intervals, manifest.head_dim)
    return stored_bytes(plain_form(manifest.dtype), shape)


def _expected_reads(manifest: Manifest, layout: Layout, share: float) -> tuple[float, float]:
    """Expect values and bytes of L2 that hold a share of the intervals, chosen anywhere."""
    plan = BlockPlan(layout, manifest.intervals_per_block)
    blocks = plan.block_of(layout.intervals - 1) + 1
    # A block is read if any of its intervals was chosen.
    values = blocks * (1 - (1 - share) ** manifest.intervals_per_block)
    return values, values * (manifest.payload_bytes - _l1_bytes(manifest)) / blocks
