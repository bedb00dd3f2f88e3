"""Several questions at once: each chooses for itself, and they are decoded together."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from acre_rag.answer import Answer, Seconds
from acre_rag.cache import KVBlock
from acre_rag.engine.asked import Asked
from acre_rag.engine.question import Questioner
from acre_rag.engine.stream import AnswerStream
from acre_rag.engine.whole import WholeText
from acre_rag.model.answering import AnswerQueue, BatchAnswer, default_batch_tokens
from acre_rag.model.batched import RememberedPrompt, remembered
from acre_rag.model.reader import DocumentReader
from acre_rag.request import Request


def answer_all(
    reader: DocumentReader,
    questioner: Questioner,
    requests: Sequence[Request],
    max_new_tokens: int,
) -> list[Answer]:
    """Answer questions of the same documents, in their order; one or more.

    Caches are fetched and spliced one after the other. Those of like lengths wait for one another
    until a batch is full; a question whose plan is `prefill` is answered by itself.

    Raises:
        ACREError: As `Questioner.choose_all` and `Questioner.refill_chosen`.
        ModelError: One question alone exhausts the device's memory.
    """
    started = time.perf_counter()
    device = reader.local.device
    queue = AnswerQueue(reader.local, max_new_tokens, default_batch_tokens(device))
    answers: dict[int, Answer] = {}
    chosen = questioner.choose_all(requests)
    for place, request in enumerate(requests):
        begun = time.perf_counter()
        asked, refilled = questioner.refill_chosen(chosen[place], request)
        if isinstance(asked, WholeText) or refilled.cache is None:
            answers[place] = AnswerStream(reader, asked, refilled, max_new_tokens).finish()
            continue
        receiver = _Receiver(
            asked=asked,
            landmarks=refilled.landmarks,
            started=started,
            fetching=refilled.fetched - begun,
            give=lambda answer, place=place: answers.update({place: answer}),  # type: ignore[misc]
        )
        queue.add(_prompt(reader, refilled.cache.taken, asked), receiver)
    queue.flush()
    return [answers[place] for place in range(len(requests))]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Receiver:
    """Makes an answer of what the model said, when that comes."""

    asked: Asked
    landmarks: int
    started: float
    fetching: float
    give: Callable[[Answer], None]

    def __call__(self, said: BatchAnswer) -> None:
        asked = self.asked
        seconds = Seconds(
            load=asked.loaded - asked.started,
            select=asked.selected - asked.loaded,
            fetch=self.fetching,
            first_token=said.first_token - self.started,
            total=said.ended - self.started,
        )
        answer = Answer(
            text=said.text,
            sources=asked.sources(),
            usage=asked.usage(self.landmarks),
            seconds=seconds,
            refill_map=asked.refill_map(),
            plan=asked.plan,
        )
        self.give(answer)


def _prompt(reader: DocumentReader, cache: KVBlock, asked: Asked) -> RememberedPrompt:
    with reader.local.lock:
        return remembered(reader.twin, cache, asked.ids)
