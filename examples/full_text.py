"""The same question in the ordinary way: the whole text before it, through stock `generate`."""

import time
from dataclasses import dataclass

import torch
from transformers import BatchEncoding, GenerationConfig
from transformers.generation.streamers import BaseStreamer

from acre_rag import ACREEngine


@dataclass(frozen=True, slots=True, kw_only=True)
class FullTextAnswer:
    """What the model answers with the whole text before it.

    Attributes:
        text: The answer.
        first_token: Seconds to its first token, the model and the token ids being ready.
    """

    text: str
    first_token: float


def ask_full_text(
    engine: ACREEngine, text: str, question: str, max_new_tokens: int
) -> FullTextAnswer:
    """Ask an engine's model, by the engine's own prompt, without any cache."""
    frame, local = engine.reader.frame, engine.reader.local
    document, _ = frame.encode_with_offsets(text)
    ids = torch.tensor([[*frame.prefix_ids, *document, *frame.question_rows(question).ids]])
    prompt = BatchEncoding({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    stop = local.model.generation_config.eos_token_id or local.tokenizer.eos_token_id
    greedy = GenerationConfig(
        do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=stop, pad_token_id=stop
    )
    clock = _Clock()
    with torch.inference_mode():
        made = local.model.generate(
            **prompt.to(local.device), generation_config=greedy, streamer=clock
        )
    answer = local.tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)
    return FullTextAnswer(text=answer.strip(), first_token=clock.tokens[1] - clock.tokens[0])


class _Clock(BaseStreamer):
    """Notes when the prompt is handed over, and when each token comes."""

    def __init__(self) -> None:
        self.tokens: list[float] = []

    def put(self, value: torch.Tensor) -> None:
        del value
        self.tokens.append(time.perf_counter())

    def end(self) -> None: ...
