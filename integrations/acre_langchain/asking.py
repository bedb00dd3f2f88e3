"""One question to an engine: which documents, which settings, what comes back."""

import threading
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field

from langchain_core.documents import Document

from acre_langchain.candidates import Candidates
from acre_langchain.documents import source_documents
from acre_langchain.pieces import stripped, until_stop
from acre_rag import ACREEngine, ACREError, AnswerStream


@dataclass(frozen=True, slots=True, kw_only=True)
class AskSettings:
    """What holds for every question of an adapter.

    Attributes:
        refill_tokens: Most raw tokens to refill; `None` leaves it to the engine.
        max_new_tokens: Longest answer.
        instructions: Replaces the prompt's own.
    """

    refill_tokens: int | None = None
    max_new_tokens: int = 64
    instructions: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question whose sources are known and whose answer is to be generated.

    Attributes:
        engine: Answers it.
        stream: The answer's text, as it comes.
        documents: What was refilled, the best-scoring first.
        prompt_tokens: Tokens before the documents and after them, up to the answer.
        encoded_tokens: Tokens run through the model to store what was not.
    """

    engine: ACREEngine
    stream: AnswerStream
    documents: list[Document]
    prompt_tokens: int
    encoded_tokens: int
    _stopped: threading.Event = field(default_factory=threading.Event)

    def pieces(self, stop: Sequence[str] = ()) -> Generator[str, None, None]:
        """Give the text as it comes; closing this stops the model."""
        with closing(stripped(until_stop(self._raw(), stop))) as pieces:
            yield from pieces

    def stop(self) -> None:
        """Stop the model soon, from whichever thread; what was generated is the answer."""
        self._stopped.set()

    def usage(self) -> dict[str, object]:
        """Sum up what the question cost and how long it took, once its text has ended."""
        answer = self.stream.answer
        encoded = answer.usage.encoded_tokens + self.encoded_tokens
        return {
            **asdict(answer.usage),
            "encoded_tokens": encoded,
            "seconds": asdict(answer.seconds),
        }

    def cached_tokens(self) -> int:
        """Count landmarks and refilled tokens, once the text has ended."""
        usage = self.stream.answer.usage
        return usage.landmarks + usage.refilled_tokens

    def answer_tokens(self) -> int:
        """Count the tokens of the answer's text, once that has ended."""
        return len(self.engine.reader.frame.encode_with_offsets(self.stream.answer.text)[0])

    def _raw(self) -> Generator[str, None, None]:
        with self.stream as stream:
            for piece in stream:
                yield piece
                if self._stopped.is_set():
                    return


def ask(engine: ACREEngine, question: str, candidates: Candidates, settings: AskSettings) -> Asked:
    """Ask the documents that a question may look into.

    Raises:
        ACREError: There are none, or question, refill and answer do not fit the context.
    """
    if candidates.documents == []:
        raise ACREError(
            "no stored document is left to ask; expected one or more: widen `documents` and "
            "`filter`, or see what the retriever finds"
        )
    stream = engine.stream(
        question,
        candidates.documents,
        settings.refill_tokens,
        settings.max_new_tokens,
        settings.instructions,
    )
    reader = engine.reader
    rows = reader.frame.question_rows(question, settings.instructions)
    return Asked(
        engine=engine,
        stream=stream,
        documents=source_documents(stream.sources, candidates.metadata),
        prompt_tokens=len(reader.frame.prefix_ids) + len(rows.ids),
        encoded_tokens=candidates.encoded_tokens,
    )
