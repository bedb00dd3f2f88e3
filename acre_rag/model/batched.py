"""Answer many prompts at once, each behind a memory of its own: stock `generate`, left-padded."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache

from acre_rag.model.decode import greedy_settings
from acre_rag.model.local import LocalModel


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberedPrompt:
    """Token ids, and the memory that stands before them.

    Attributes:
        keys: Rotated as the ids behind them expect: these begin at position `tokens`, (layers,
            kv_heads, tokens, head_dim).
        values: Same shape.
        ids: What follows the memory.
    """

    keys: Tensor
    values: Tensor
    ids: list[int]

    @property
    def tokens(self) -> int:
        """Tokens of memory and ids together."""
        return self.keys.shape[2] + len(self.ids)


def answer_batch(
    local: LocalModel, prompts: Sequence[RememberedPrompt], max_new_tokens: int
) -> list[str]:
    """Generate greedily after each prompt, in one batch.

    Memories and ids are padded in front and masked there; positions are counted without padding.
    """
    memory = max(prompt.keys.shape[2] for prompt in prompts)
    rows = max(len(prompt.ids) for prompt in prompts)
    settings = greedy_settings(local, max_new_tokens)
    ids = torch.full((len(prompts), rows), int(settings.pad_token_id), dtype=torch.long)
    mask = torch.zeros(len(prompts), memory + rows, dtype=torch.long)
    for index, prompt in enumerate(prompts):
        ids[index, rows - len(prompt.ids) :] = torch.tensor(prompt.ids)
        mask[index, memory - prompt.keys.shape[2] : memory] = 1
        mask[index, memory + rows - len(prompt.ids) :] = 1
    with local.lock, torch.inference_mode():
        keys = _stack([prompt.keys for prompt in prompts], memory)
        values = _stack([prompt.values for prompt in prompts], memory)
        output = local.model.generate(  # type: ignore[operator]  # a mixin's method
            ids.to(local.device),
            past_key_values=DynamicCache(ddp_cache_data=list(zip(keys, values, strict=True))),
            attention_mask=mask.to(local.device),
            generation_config=settings,
        )
    ends = settings.eos_token_id
    ending = set(ends if isinstance(ends, list) else [ends])
    return [_text(local, row, ending) for row in output[:, rows:].tolist()]


def _stack(blocks: Sequence[Tensor], tokens: int) -> Tensor:
    """Pad blocks in front and join them: (layers, prompts, kv_heads, tokens, head_dim)."""
    return torch.stack([pad(block, (0, 0, tokens - block.shape[2], 0)) for block in blocks], dim=1)


def _text(local: LocalModel, row: list[int], ending: set[int]) -> str:
    length = next((place for place, token in enumerate(row) if token in ending), len(row))
    return str(local.tokenizer.decode(row[:length], skip_special_tokens=True)).strip()
