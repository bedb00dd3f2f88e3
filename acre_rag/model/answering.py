"""Prompts of many questions, answered in batches that the device takes."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from acre_rag.errors import ModelError
from acre_rag.model.batched import RememberedPrompt, answer_batch
from acre_rag.model.local import LocalModel

_MOST_PROMPTS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchAnswer:
    """What the model said to one prompt of a batch.

    Attributes:
        text: The answer.
        first_token: When its batch had its first tokens, in seconds of `time.perf_counter`.
        ended: When its batch was over.
    """

    text: str
    first_token: float
    ended: float


Waiting = tuple[RememberedPrompt, Callable[[BatchAnswer], None]]


@dataclass(slots=True)
class AnswerQueue:
    """Collects prompts of like lengths, of whatever method, and answers each full batch.

    Attributes:
        local: Model and tokenizer.
        max_new_tokens: Longest answer.
        batch_tokens: Most tokens of all prompts of a batch, padding counted.
    """

    local: LocalModel
    max_new_tokens: int
    batch_tokens: int
    _waiting: dict[tuple[int, int], list[Waiting]] = field(default_factory=dict, init=False)

    def add(self, prompt: RememberedPrompt, on_answer: Callable[[BatchAnswer], None]) -> None:
        """Put a prompt in line; its answer may come now or later.

        Raises:
            ModelError: One prompt alone exhausts the device's memory.
        """
        kind = _kind(prompt)
        waiting = self._waiting.setdefault(kind, [])
        together = [*(other for other, _ in waiting), prompt]
        full = len(waiting) == _MOST_PROMPTS or _padded_tokens(together) > self.batch_tokens
        if waiting and full:
            self._flush(kind)
        self._waiting.setdefault(kind, []).append((prompt, on_answer))

    def flush(self) -> None:
        """Answer what is waiting.

        Raises:
            ModelError: One prompt alone exhausts the device's memory.
        """
        for kind in list(self._waiting):
            self._flush(kind)

    def _flush(self, kind: tuple[int, int]) -> None:
        waiting = self._waiting.pop(kind)
        answers = self._answer([prompt for prompt, _ in waiting])
        for (_, on_answer), answer in zip(waiting, answers, strict=True):
            on_answer(answer)

    def _answer(self, prompts: Sequence[RememberedPrompt]) -> list[BatchAnswer]:
        steps: list[float] = []

        def note() -> None:
            steps.append(time.perf_counter())

        try:
            texts = answer_batch(self.local, prompts, self.max_new_tokens, note)
            return [BatchAnswer(text=text, first_token=steps[0], ended=steps[-1]) for text in texts]
        except torch.OutOfMemoryError as error:
            if len(prompts) == 1:
                raise ModelError(
                    f"a prompt of {prompts[0].tokens} tokens does not fit the device's memory; "
                    "expected room for one: lower refill_tokens or ask fewer documents; in an "
                    "evaluation, lower max_document_tokens"
                ) from error
        # Out of the handler, whose traceback would keep the tensors of the failed try.
        torch.cuda.empty_cache()
        half = len(prompts) // 2
        return self._answer(prompts[:half]) + self._answer(prompts[half:])


def default_batch_tokens(device: torch.device) -> int:
    """Choose how many tokens a batch may have: a GPU wants many, a CPU's memory few."""
    return 131_072 if device.type == "cuda" else 12_288


def _kind(prompt: RememberedPrompt) -> tuple[int, int]:
    """Sort prompts so that those of one kind pad each other little: memory within 1.4 times."""
    memory = prompt.keys.shape[2]
    return (memory * memory).bit_length(), len(prompt.ids).bit_length()


def _padded_tokens(prompts: Sequence[RememberedPrompt]) -> int:
    memory = max(prompt.keys.shape[2] for prompt in prompts)
    return len(prompts) * (memory + max(len(prompt.ids) for prompt in prompts))
