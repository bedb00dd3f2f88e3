"""How long a question waits for the first token of its answer, one question at a time."""

import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from acre_rag.engine import ACREEngine
from acre_rag.evaluate.dataset import Question
from acre_rag.evaluate.documents import OpenDocument
from acre_rag.evaluate.methods import Readers
from acre_rag.evaluate.plain import FullText, SnapKV
from acre_rag.evaluate.prompts import Method
from acre_rag.evaluate.refilling import Refilling, gold_first, published
from acre_rag.evaluate.tuned import Tuned
from acre_rag.model.batched import answer_batch
from acre_rag.text.document import Document


@dataclass(frozen=True, slots=True, kw_only=True)
class Timer:
    """Times methods on one document.

    Attributes:
        readers: Model, adapter and settings.
        opened: Document and questions; as many are timed as it has.
        budget: Refilled tokens.
        instructions: Follow each question in place of the prompt's own.
    """

    readers: Readers
    opened: OpenDocument
    budget: int
    instructions: str | None = None

    def first_token_ms(self, method: Method) -> float | None:
        """Measure the median; `None` for a method that nobody could use (gold evidence).

        A tuned generator takes as long as the frozen one, and is not timed either.

        A refill is timed through an engine and a store in a directory: what was read before stays
        there, and every question reads its tokens from it. The landmarks stay in memory behind
        the first question. The methods over a plain prefill read the document for each question.
        """
        if isinstance(method, Refilling):
            return None if method.rule is gold_first else self._refilling(method)
        if isinstance(method, Tuned):
            return None
        return self._others(method)

    def _refilling(self, method: Refilling) -> float:
        reader = self.readers.trained if method.trained else self.readers.free
        if reader is None:
            raise ValueError(f"{method.name} found no landmark adapter; expected one: name it")
        config = replace(reader.config, selection="learned")
        if method.rule is published:
            config = replace(reader.config, selection="published")
        document = Document(id=self.opened.document.id, text=self.opened.document.text)
        adapter = reader.twin.adapter or "none"
        with (
            tempfile.TemporaryDirectory(prefix="acre-eval-") as place,
            closing(ACREEngine(reader.local, adapter, Path(place), config)) as engine,
        ):
            engine.ingest([document])
            found = [
                engine.ask(
                    question.text,
                    refill_tokens=self.budget if method.budgeted else 0,
                    max_new_tokens=1,
                    instructions=self.instructions,
                ).seconds.first_token
                for question in self._asked()
            ]
        return _median_ms(found)

    def _others(self, method: Method) -> float:
        rereads = isinstance(method, (FullText, SnapKV))
        found = []
        for question in self._asked():
            document = replace(self.opened.document, questions=(question,))
            one = OpenDocument(
                document,
                free=self.readers.free,
                trained=None,
                max_new_tokens=self.opened.max_new_tokens,
                instructions=self.instructions,
            )
            if not rereads:
                method.prompts(one, self.budget)  # an index is made once for all questions
            self._wait()
            started = time.perf_counter()
            prompts = method.prompts(one, self.budget)
            remembered = [prompt.remembered for prompt in prompts if prompt is not None]
            answer_batch(self.readers.free.local, remembered, 1)
            self._wait()
            found.append(time.perf_counter() - started)
        return _median_ms(found)

    def _asked(self) -> Sequence[Question]:
        # The first is asked twice, and its first time left out: it warms up.
        return self.opened.document.questions[:1] + self.opened.document.questions

    def _wait(self) -> None:
        if self.readers.free.local.device.type == "cuda":
            torch.cuda.synchronize()


def _median_ms(seconds: Sequence[float]) -> float:
    return 1000 * statistics.median(seconds[1:])
