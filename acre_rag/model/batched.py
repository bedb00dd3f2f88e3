"""Answer many prompts at once, each behind a memory of its own: stock `generate`, left-padded."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache, StoppingCriteriaList

from acre_rag.cache import KVBlock
from acre_rag.model.decode import Watch, greedy_settings
from acre_rag.model.growing_cache import growing_cache
from acre_rag.model.local import LocalModel
from acre_rag.model.question_rows import read_question
from acre_rag.model.reading import ReadingTwin
from acre_rag.model.support import layer_devices


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


def remembered(twin: ReadingTwin, block: KVBlock, ids: list[int]) -> RememberedPrompt:
    """Rotate a block, not rotated, to positions 0 and up, and put ids behind it.

    Where the question has landmarks, all ids but the last are read with them, into the memory.
    """
    with torch.inference_mode():
        memory = twin.remember(block.keys[:, None], block.values[:, None])
        own, held = read_question(twin, memory, ids)
        whole = KVBlock(memory.keys[:, 0], memory.values[:, 0])
        if held:
            whole = KVBlock.concatenate([whole, own])
    return RememberedPrompt(keys=whole.keys, values=whole.values, ids=ids[held:])


def answer_batch(
    local: LocalModel,
    prompts: Sequence[RememberedPrompt],
    max_new_tokens: int,
    on_token: Callable[[], None] = lambda: None,
) -> list[str]:
    """Generate greedily after each prompt, in one batch.

    Memories and ids are padded in front and masked there; positions are counted without padding.

    Args:
        local: Model and tokenizer.
        prompts: One or more.
        max_new_tokens: Longest answer.
        on_token: Called after every step, in which each unfinished answer got a token.

    Returns:
        An answer to each.
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
    watch = Watch(threading.Event(), on_token)
    cache = _stacked(local, prompts, memory)
    model = local.replays.answering(local.model, cache, max_new_tokens)
    with local.answering():
        output = model.generate(  # type: ignore[operator]  # a mixin's method
            ids.to(local.device),
            past_key_values=cache,
            attention_mask=mask.to(local.device),
            generation_config=settings,
            stopping_criteria=StoppingCriteriaList([watch]),
        )
    ends = settings.eos_token_id
    ending = set(ends if isinstance(ends, list) else [ends])
    return [_text(local, row, ending) for row in output[:, rows:].tolist()]


def _stacked(local: LocalModel, prompts: Sequence[RememberedPrompt], tokens: int) -> DynamicCache:
    """Pad memories in front to so many tokens, and make them one stock cache."""

    def stack(blocks: Sequence[Tensor], device: torch.device) -> Tensor:
        padded = [pad(block, (0, 0, tokens - block.shape[1], 0)) for block in blocks]
        return torch.stack(padded).to(device)

    layers = []
    # Layer by layer, so that each lets go of its tensors once its cache has grown.
    for layer, device in enumerate(layer_devices(local.model)):
        keys = stack([prompt.keys[layer] for prompt in prompts], device)
        layers.append((keys, stack([prompt.values[layer] for prompt in prompts], device)))
    return growing_cache(layers)


def _text(local: LocalModel, row: list[int], ending: set[int]) -> str:
    length = next((place for place, token in enumerate(row) if token in ending), len(row))
    return str(local.tokenizer.decode(row[:length], skip_special_tokens=True)).strip()
