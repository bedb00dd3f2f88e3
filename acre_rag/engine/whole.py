"""The whole text before the question: what the plain model would be asked."""

from collections.abc import Sequence
from dataclasses import dataclass

from acre_rag.answer import Source, Usage
from acre_rag.config import Plan
from acre_rag.model.prompt import PromptFrame, QuestionRows
from acre_rag.refill_map import DocumentStrip, RefillMap
from acre_rag.store.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeText:
    """A question behind the whole text of its documents, nothing being refilled.

    Attributes:
        manifests: Documents asked, in that order.
        ids: The whole prompt.
        started: When the question came, in seconds of `time.perf_counter`.
        loaded: When the texts were there.
        selected: The same: nothing is selected.
        plan: `prefill`.
    """

    manifests: tuple[Manifest, ...]
    ids: list[int]
    started: float
    loaded: float
    selected: float
    plan: Plan = "prefill"

    def sources(self) -> tuple[Source, ...]:
        """Give each document as a whole; their scores are their shares of the tokens."""
        tokens = self._tokens
        return tuple(
            Source(
                document=manifest.document_id,
                start=0,
                end=len(manifest.text),
                text=manifest.text,
                score=manifest.tokens / tokens,
            )
            for manifest in self.manifests
        )

    def refill_map(self) -> RefillMap:
        """Show every interval as chosen, its score its share of the tokens."""
        return RefillMap(strips=tuple(_strip(one, self._tokens) for one in self.manifests))

    def usage(self, landmarks: int) -> Usage:
        """Sum up the costs: every token ran through the model, no cache was read."""
        return Usage(
            document_tokens=self._tokens,
            landmarks=landmarks,
            refilled_tokens=0,
            encoded_tokens=self._tokens,
            recomputed_tokens=0,
            bytes_read=0,
        )

    @property
    def _tokens(self) -> int:
        return sum(manifest.tokens for manifest in self.manifests)


def whole_prompt(
    frame: PromptFrame, manifests: Sequence[Manifest], rows: QuestionRows
) -> list[int]:
    """Put the token ids together: prefix, each document's, then what follows them."""
    texts = [frame.encode_with_offsets(manifest.text)[0] for manifest in manifests]
    return [*frame.prefix_ids, *(token for ids in texts for token in ids), *rows.ids]


def _strip(manifest: Manifest, tokens: int) -> DocumentStrip:
    count, size = manifest.intervals, manifest.interval_tokens
    shares = [min(size, manifest.tokens - index * size) / tokens for index in range(count)]
    return DocumentStrip(
        document=manifest.document_id,
        characters=len(manifest.text),
        starts=tuple(manifest.interval_starts),
        ends=tuple(manifest.interval_ends),
        scores=tuple(shares),
        chosen=tuple(range(count)),
    )
