"""An engine's model on its own: prompt in, text out, one token after the other."""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import torch

from acre_langchain.messages import Turn
from acre_langchain.pieces import stripped, until_stop
from acre_rag import ACREEngine, ACREError, LocalModel


@dataclass(slots=True, kw_only=True)
class Completion:
    """What a model says after a conversation, no documents being asked.

    Attributes:
        local: The model.
        ids: Tokens of the conversation.
        max_new_tokens: Longest completion.
        generated: Tokens that the model has made so far.
    """

    local: LocalModel
    ids: list[int]
    max_new_tokens: int
    generated: list[int] = field(default_factory=list)

    def pieces(self, stop: Sequence[str] = ()) -> Generator[str, None, None]:
        """Give the text as it comes; the model is held for one token at a time."""
        with closing(stripped(until_stop(self._raw(), stop))) as pieces:
            yield from pieces

    def _raw(self) -> Generator[str, None, None]:
        fresh, cache, given = self.ids, None, ""
        ends = _end_tokens(self.local)
        for _ in range(self.max_new_tokens):
            with self.local.lock, torch.inference_mode():
                rows = torch.tensor([fresh], device=self.local.device)
                output = self.local.model(
                    rows, past_key_values=cache, use_cache=True, logits_to_keep=1
                )
            token = int(output.logits[0, -1].argmax())
            if token in ends:
                break
            self.generated.append(token)
            fresh, cache = [token], output.past_key_values
            text = self._text()
            # The end of the text may be half a character.
            if not text.endswith("\N{REPLACEMENT CHARACTER}"):
                yield text[len(given) :]
                given = text
        if rest := self._text()[len(given) :]:
            yield rest

    def _text(self) -> str:
        return str(self.local.tokenizer.decode(self.generated, skip_special_tokens=True))


def complete(engine: ACREEngine, turns: Sequence[Turn], max_new_tokens: int) -> Completion:
    """Let an engine's model answer a conversation, without its documents.

    Raises:
        ACREError: Conversation and completion do not fit the context.
    """
    local = engine.reader.local
    prompt = _render(local, turns)
    ids = list(local.tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"])
    available = engine.reader.context_tokens - max_new_tokens
    if not 0 < len(ids) <= available:
        raise ACREError(
            f"the conversation has {len(ids)} tokens; expected 1 to {available}, so that "
            f"{max_new_tokens} new ones fit the context: shorten it or lower max_tokens"
        )
    return Completion(local=local, ids=ids, max_new_tokens=max_new_tokens)


def _render(local: LocalModel, turns: Sequence[Turn]) -> str:
    if not local.tokenizer.chat_template:
        said = "".join(f"{turn.role}: {turn.text}\n" for turn in turns)
        return f"{local.tokenizer.bos_token or ''}{said}assistant:"
    return str(
        local.tokenizer.apply_chat_template(
            [{"role": turn.role, "content": turn.text} for turn in turns],
            tokenize=False,
            add_generation_prompt=True,
        )
    )


def _end_tokens(local: LocalModel) -> set[int]:
    ends = getattr(local.model.generation_config, "eos_token_id", None)
    if ends is None:
        ends = local.tokenizer.eos_token_id
    return set(ends) if isinstance(ends, list) else {ends}
