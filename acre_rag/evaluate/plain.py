"""The methods over a plain prefill: the whole text, and SnapKV's choice from it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from acre_rag.cache import KVBlock
from acre_rag.evaluate.documents import OpenDocument
from acre_rag.evaluate.prompts import Prompt, joined
from acre_rag.model.batched import RememberedPrompt
from acre_rag.model.reading import Reading, ReadingTwin

_POOLED = 5  # SnapKV's kernel, as its authors' code has it


@dataclass(frozen=True, slots=True, kw_only=True)
class FullText:
    """The whole text before the question, cut in the middle where the context is too short."""

    name: str = "full"
    budgeted: bool = False

    def prompts(self, opened: OpenDocument, budget: int) -> list[Prompt | None]:  # noqa: ARG002
        """Make a prompt for each question; all share the document's keys and values."""
        twin, block = opened.reader.twin, opened.plain
        with torch.inference_mode():
            memory = twin.remember(block.keys[:, None], block.values[:, None])
        keys, values = memory.keys[:, 0], memory.values[:, 0]
        places = opened.plain_places
        tokens = opened.document.tokens
        spans = joined(
            [(int(tokens.starts[own[0]]), int(tokens.ends[own[-1]])) for own in _runs(places)]
        )
        return [
            Prompt(
                remembered=RememberedPrompt(keys=keys, values=values, ids=rows.ids),
                spans=spans,
                refilled_tokens=len(places),
                cut=len(places) < len(tokens.ids),
            )
            for rows in opened.rows
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapKV:
    """SnapKV (arXiv 2404.14469): every head keeps what the prompt's end attends to most.

    The observed window is all that follows the document. Attention of its rows to the document is
    averaged over them and over the query heads of a group, smoothed over neighbours, and the best
    tokens are kept at their distances, as many as the budget says, beside the prompt's prefix.
    """

    name: str = "snapkv"
    budgeted: bool = True

    def prompts(self, opened: OpenDocument, budget: int) -> list[Prompt | None]:
        """Make a prompt for each question."""
        twin, block = opened.reader.twin, opened.plain
        prefix = opened.reader.prefix.tokens
        kept = min(budget, block.tokens - prefix)
        # Attention knows distances alone: the kept keys stand where the ids behind them, counted
        # on from what is kept, are as far away as they were.
        shift = block.tokens - prefix - kept
        found: list[Prompt | None] = []
        with opened.reader.local.lock, torch.inference_mode():
            places = torch.arange(block.tokens, device=block.keys.device)
            seen = twin.rotate(block.keys[:, None], places)
            moved = twin.rotate(block.keys[:, None], places - shift)[:, 0]
            for rows in opened.rows:
                reading = _read_rows(twin, rows.ids, block)
                chosen = _chosen(twin, reading, seen[:, 0], prefix, kept)
                index = chosen[..., None].expand(-1, -1, -1, block.keys.shape[3])
                remembered = RememberedPrompt(
                    keys=moved.gather(2, index), values=block.values.gather(2, index), ids=rows.ids
                )
                cut = block.tokens - prefix < len(opened.document.tokens.ids)
                found.append(
                    Prompt(remembered=remembered, spans=None, refilled_tokens=kept, cut=cut)
                )
        return found


def _read_rows(twin: ReadingTwin, ids: list[int], block: KVBlock) -> Reading:
    rows = torch.tensor([ids], device=block.keys.device)
    memory = twin.remember(block.keys[:, None], block.values[:, None])
    return twin.read(twin.embed(rows), memory=memory, keep_queries=True)


def _chosen(twin: ReadingTwin, reading: Reading, seen: Tensor, prefix: int, kept: int) -> Tensor:
    """Choose tokens for every head, the prefix first: (layers, kv_heads, prefix + kept)."""
    if reading.queries is None:
        raise ValueError("the pass kept no queries; expected keep_queries to be honoured")
    layers, kv_heads, tokens, _ = seen.shape
    rows = reading.queries.shape[3]
    positions = torch.arange(tokens, tokens + rows, device=seen.device)
    asking = twin.rotate(reading.queries, positions)[:, 0]
    own = twin.rotate(reading.keys, positions)[:, 0]
    causal = torch.ones(rows, rows, dtype=torch.bool, device=seen.device).tril()
    chosen = []
    for layer in range(layers):
        # A key head serves neighbouring query heads (grouped-query attention).
        grouped = asking[layer].float().unflatten(0, (kv_heads, -1))
        past = grouped @ seen[layer].float().transpose(1, 2)[:, None]
        among = grouped @ own[layer].float().transpose(1, 2)[:, None]
        among = among.masked_fill(~causal, -torch.inf)
        paid = (torch.cat([past, among], dim=-1) * twin.shape.scaling).softmax(dim=-1)
        mean = paid[..., prefix:tokens].mean(dim=(1, 2))
        smooth = torch.nn.functional.avg_pool1d(mean, _POOLED, stride=1, padding=_POOLED // 2)
        chosen.append(smooth.topk(kept, dim=-1).indices.sort(dim=-1).values + prefix)
    first = torch.arange(prefix, device=seen.device).expand(layers, kv_heads, -1)
    return torch.cat([first, torch.stack(chosen)], dim=-1)


def _runs(places: "object") -> list[list[int]]:
    runs: list[list[int]] = []
    for place in places.tolist():  # type: ignore[attr-defined]
        if runs and runs[-1][-1] + 1 == place:
            runs[-1].append(place)
        else:
            runs.append([place])
    return runs
