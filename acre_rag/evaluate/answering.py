"""Prompts of many questions, answered in batches that the device takes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from acre_rag.errors import ModelError
from acre_rag.evaluate.prompts import Prompt
from acre_rag.model.batched import answer_batch
from acre_rag.model.local import LocalModel

_MOST_PROMPTS = 128


@dataclass(slots=True)
class AnswerQueue:
    """Collects prompts of one method and answers them as soon as a batch is full.

    Attributes:
        local: Model and tokenizer.
        max_new_tokens: Longest answer.
        batch_tokens: Most tokens of all prompts of a batch, padding counted.
    """

    local: LocalModel
    max_new_tokens: int
    batch_tokens: int
    _waiting: "list[tuple[Prompt, Callable[[str], None]]] | None" = None

    def add(self, prompt: Prompt, on_answer: Callable[[str], None]) -> None:
        """Put a prompt in line; its answer may come now or later."""
        waiting = self._waiting or []
        longest = max([prompt.remembered.tokens, *(p.remembered.tokens for p, _ in waiting)])
        full = len(waiting) == _MOST_PROMPTS or longest * (len(waiting) + 1) > self.batch_tokens
        if waiting and full:
            self.flush()
            waiting = []
        waiting.append((prompt, on_answer))
        self._waiting = waiting

    def flush(self) -> None:
        """Answer what is waiting.

        Raises:
            ModelError: The device's memory is exhausted.
        """
        waiting, self._waiting = self._waiting or [], None
        if not waiting:
            return
        answers = self._answer([prompt for prompt, _ in waiting])
        for (_, on_answer), answer in zip(waiting, answers, strict=True):
            on_answer(answer)

    def _answer(self, prompts: Sequence[Prompt]) -> list[str]:
        remembered = [prompt.remembered for prompt in prompts]
        try:
            return answer_batch(self.local, remembered, self.max_new_tokens)
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"a batch of {self.batch_tokens} tokens does not fit the device's memory; "
                "expected a smaller one: lower batch_tokens"
            ) from error


def default_batch_tokens(device: torch.device) -> int:
    """Choose how many tokens a batch may have: a GPU wants many, a CPU's memory few."""
    return 131_072 if device.type == "cuda" else 12_288
