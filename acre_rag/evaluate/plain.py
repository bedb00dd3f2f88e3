"""The methods over a plain prefill: the whole text, and SnapKV's choice from it."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from acre_rag.evaluate.documents import OpenDocument
from acre_rag.evaluate.prompts import Budget, Prompt, joined, tokens_of
from acre_rag.model.batched import RememberedPrompt

_QUESTION_TOKENS_AT_ONCE = 65_536
_POOLED = 5  # SnapKV's kernel, as its authors' code has it


@dataclass(frozen=True, slots=True, kw_only=True)
class FullText:
    """The whole text before the question, cut in the middle where the context is too short."""

    name: str = "full"
    budgeted: bool = False
    finds_budget: bool = False

    def prompts(self, opened: OpenDocument, budget: Budget) -> list[Prompt | None]:  # noqa: ARG002
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


@dataclass(slots=True, kw_only=True)
class SnapKV:
    """SnapKV (arXiv 2404.14469): every head keeps what the prompt's end attends to most.

    The observed window is all that follows the document. Attention of its rows to the document is
    averaged over them and over the query heads of a group, smoothed over neighbours, and the best
    tokens are kept at their distances, as many as the budget says, beside the prompt's prefix.
    """

    name: str = "snapkv"
    budgeted: bool = True
    finds_budget: bool = False
    _of: OpenDocument | None = field(default=None, init=False)
    _paid: list[Tensor] = field(default_factory=list, init=False)

    def prompts(self, opened: OpenDocument, budget: Budget) -> list[Prompt | None]:
        """Make a prompt for each question."""
        twin, block = opened.reader.twin, opened.plain
        prefix = opened.reader.prefix.tokens
        kept = min(tokens_of(self.name, budget), block.tokens - prefix)
        # Attention knows distances alone: the kept keys stand where the ids behind them, counted
        # on from what is kept, are as far away as they were.
        shift = block.tokens - prefix - kept
        cut = block.tokens - prefix < len(opened.document.tokens.ids)
        found: list[Prompt | None] = []
        with opened.reader.local.lock, torch.inference_mode():
            if self._of is not opened:
                self._of, self._paid = opened, _paid_by_questions(opened)
            places = torch.arange(block.tokens, device=block.keys.device)
            moved = twin.rotate(block.keys[:, None], places - shift)[:, 0]
            first = places[:prefix].expand(*moved.shape[:2], -1)
            for rows, paid in zip(opened.rows, self._paid, strict=True):
                best = paid.topk(kept, dim=-1).indices.sort(dim=-1).values + prefix
                index = torch.cat([first, best], dim=-1)[..., None]
                index = index.expand(-1, -1, -1, block.keys.shape[3])
                remembered = RememberedPrompt(
                    keys=moved.gather(2, index), values=block.values.gather(2, index), ids=rows.ids
                )
                found.append(
                    Prompt(remembered=remembered, spans=None, refilled_tokens=kept, cut=cut)
                )
        return found


def _paid_by_questions(opened: OpenDocument) -> list[Tensor]:
    """Measure what each question pays to the document: each (layers, kv_heads, tokens)."""
    found: list[Tensor] = []
    # A question's attention in one layer takes this much memory for each of them.
    at_once = max(_QUESTION_TOKENS_AT_ONCE // opened.plain.tokens, 1)
    for start in range(0, len(opened.rows), at_once):
        asked = [own.ids for own in opened.rows[start : start + at_once]]
        found.extend(_paid(opened, asked).unbind(1))
    return found


def _paid(opened: OpenDocument, asked: list[list[int]]) -> Tensor:
    """Run questions over the document: (layers, questions, kv_heads, tokens), smoothed."""
    twin, block, prefix = opened.reader.twin, opened.plain, opened.reader.prefix.tokens
    device, tokens = block.keys.device, block.tokens
    rows = max(map(len, asked))
    # What pads a question stands behind it, where no row of its own sees it.
    ids = torch.tensor([own + [0] * (rows - len(own)) for own in asked], device=device)
    share = torch.tensor([[(r < len(own)) / len(own) for r in range(rows)] for own in asked])
    memory = twin.remember(block.keys[:, None], block.values[:, None])
    reading = twin.read(twin.embed(ids), memory=memory, keep_queries=True)
    if reading.queries is None:
        raise ValueError("the pass kept no queries; expected keep_queries to be honoured")
    positions = torch.arange(tokens, tokens + rows, device=device)
    asking, own = twin.rotate(reading.queries, positions), twin.rotate(reading.keys, positions)
    causal = torch.ones(rows, rows, dtype=torch.bool, device=device).tril()
    found = []
    for layer, seen in enumerate(memory.keys):
        # A key head serves neighbouring query heads (grouped-query attention).
        grouped = asking[layer].float().unflatten(1, (own.shape[2], -1))
        past = grouped @ seen.float().transpose(2, 3)[:, :, None]
        among = grouped @ own[layer].float().transpose(2, 3)[:, :, None]
        among = among.masked_fill(~causal, -torch.inf)
        paid = (torch.cat([past, among], dim=-1) * twin.shape.scaling).softmax(dim=-1)
        mean = paid[..., prefix:tokens].mean(dim=2).mul(share.to(device)[:, None, :, None]).sum(2)
        found.append(torch.nn.functional.avg_pool1d(mean, _POOLED, stride=1, padding=_POOLED // 2))
    return torch.stack(found)


def _runs(places: "object") -> list[list[int]]:
    runs: list[list[int]] = []
    for place in places.tolist():  # type: ignore[attr-defined]
        if runs and runs[-1][-1] + 1 == place:
            runs[-1].append(place)
        else:
            runs.append([place])
    return runs
