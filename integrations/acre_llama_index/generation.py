"""An engine's model on its own: prompt in, text out, one token after the other."""

from collections.abc import Generator, Sequence

import torch
from llama_index.core.base.llms.generic_utils import messages_to_prompt
from llama_index.core.base.llms.types import ChatMessage

from acre_rag import ACREEngine, ACREError, LocalModel


def render_messages(local: LocalModel, messages: Sequence[ChatMessage]) -> str:
    """Render messages with the tokenizer's chat template, or the framework's plain one."""
    if not local.tokenizer.chat_template:
        return messages_to_prompt(messages)
    return str(
        local.tokenizer.apply_chat_template(
            [{"role": m.role.value, "content": m.content or ""} for m in messages],
            tokenize=False,
            add_generation_prompt=True,
        )
    )


def generate(engine: ACREEngine, prompt: str, max_new_tokens: int) -> Generator[str, None, None]:
    """Complete a rendered prompt greedily; the model is held for one token at a time.

    Raises:
        ACREError: Prompt and completion do not fit the context.
    """
    local = engine.reader.local
    ids = list(local.tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"])
    available = engine.reader.context_tokens - max_new_tokens
    if not 0 < len(ids) <= available:
        raise ACREError(
            f"the prompt has {len(ids)} tokens; expected 1 to {available}, so that "
            f"{max_new_tokens} new ones fit the context: shorten it or lower max_new_tokens"
        )
    ends = _end_tokens(local)
    fresh, cache, done, given = ids, None, list[int](), ""
    for _ in range(max_new_tokens):
        with local.lock, torch.inference_mode():
            rows = torch.tensor([fresh], device=local.device)
            output = local.model(rows, past_key_values=cache, use_cache=True, logits_to_keep=1)
        token = int(output.logits[0, -1].argmax())
        if token in ends:
            break
        done.append(token)
        fresh, cache = [token], output.past_key_values
        text = str(local.tokenizer.decode(done, skip_special_tokens=True))
        # The end of the text may be half a character.
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):
            yield text[len(given) :]
            given = text
    rest = str(local.tokenizer.decode(done, skip_special_tokens=True))[len(given) :]
    if rest:
        yield rest


def _end_tokens(local: LocalModel) -> set[int]:
    ends = getattr(local.model.generation_config, "eos_token_id", None)
    if ends is None:
        ends = local.tokenizer.eos_token_id
    return set(ends) if isinstance(ends, list) else {ends}
