"""Prompts are answered once each, in batches of like lengths that fit the device."""

from collections.abc import Callable

import pytest
import torch

from acre_rag.errors import ModelError
from acre_rag.model import answering
from acre_rag.model.answering import AnswerQueue, BatchAnswer
from acre_rag.model.batched import RememberedPrompt
from acre_rag.model.local import LocalModel

BATCH_TOKENS = 100

Step = Callable[[], None]


def _prompt(memory: int, ids: int, mark: int = 0) -> RememberedPrompt:
    empty = torch.zeros(1, 1, memory, 1)
    return RememberedPrompt(keys=empty, values=empty, ids=[mark] * ids)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[list[RememberedPrompt]]:
    """Batches as they are answered: each prompt by its own first id."""
    seen: list[list[RememberedPrompt]] = []

    def answer(
        _local: object, prompts: list[RememberedPrompt], _tokens: int, on_token: Step
    ) -> list[str]:
        seen.append(list(prompts))
        on_token()
        on_token()
        return [str(prompt.ids[0]) for prompt in prompts]

    monkeypatch.setattr(answering, "answer_batch", answer)
    return seen


def test_every_prompt_gets_its_own_answer_once(
    local: LocalModel, batches: list[list[RememberedPrompt]]
) -> None:
    queue = AnswerQueue(local, 4, BATCH_TOKENS)
    given: dict[int, list[BatchAnswer]] = {mark: [] for mark in range(60)}

    for mark, answers in given.items():
        queue.add(_prompt(5 + 7 * (mark % 9), 3 + mark % 13, mark), answers.append)
    queue.flush()
    queue.flush()

    texts = {mark: [answer.text for answer in answers] for mark, answers in given.items()}
    assert texts == {mark: [str(mark)] for mark in range(60)}
    assert all(one.first_token <= one.ended for answers in given.values() for one in answers)
    assert 1 < len(batches) < 60


def test_a_batch_fits_and_its_prompts_pad_each_other_little(
    local: LocalModel, batches: list[list[RememberedPrompt]]
) -> None:
    queue = AnswerQueue(local, 4, BATCH_TOKENS)

    for memory in (*range(6, 60), 300):
        queue.add(_prompt(memory, 3), lambda _: None)
    queue.flush()

    for batch in batches:
        memories = [prompt.keys.shape[2] for prompt in batch]
        assert len(batch) == 1 or len(batch) * (max(memories) + 3) <= BATCH_TOKENS
        assert max(memories) <= 1.5 * min(memories)


def test_a_batch_over_the_memory_is_answered_in_halves(
    local: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def answer(
        _local: object, prompts: list[RememberedPrompt], _tokens: int, on_token: Step
    ) -> list[str]:
        sizes.append(len(prompts))
        if len(prompts) > 2:
            raise torch.OutOfMemoryError("full")
        on_token()
        return [str(prompt.ids[0]) for prompt in prompts]

    monkeypatch.setattr(answering, "answer_batch", answer)
    queue = AnswerQueue(local, 4, BATCH_TOKENS)
    given: list[BatchAnswer] = []
    for mark in range(5):
        queue.add(_prompt(10, 2, mark), given.append)
    queue.flush()

    assert [answer.text for answer in given] == ["0", "1", "2", "3", "4"]
    assert sizes == [5, 2, 3, 1, 2]


def test_a_prompt_that_does_not_fit_alone_is_an_error_that_says_what_to_lower(
    local: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(
        _local: object, _prompts: list[RememberedPrompt], _tokens: int, _step: Step
    ) -> list[str]:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(answering, "answer_batch", answer)
    queue = AnswerQueue(local, 4, BATCH_TOKENS)
    queue.add(_prompt(10, 2), lambda _: None)

    with pytest.raises(ModelError, match=r"12 tokens.*lower max_document_tokens"):
        queue.flush()
