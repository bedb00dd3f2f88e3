"""One question to an engine: which documents, which settings, what comes back."""

from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass

from langchain_core.documents import Document

from acre_langchain.candidates import Candidates, RefillTokens
from acre_langchain.documents import source_documents
from acre_langchain.pieces import spoken
from acre_rag import ACREEngine, ACREError, AnswerStream, AsyncText


@dataclass(frozen=True, slots=True, kw_only=True)
class AskSettings:
    """What holds for every question of an adapter.

    Attributes:
        refill_tokens: Most raw tokens to refill, or `auto`; `None` leaves it to the engine.
        max_new_tokens: Longest answer.
        instructions: Replaces the prompt's own.
    """

    refill_tokens: RefillTokens = None
    max_new_tokens: int = 64
    instructions: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question whose sources are known and whose answer is to be generated.

    Attributes:
        stream: The answer's text, as it comes.
        documents: What was refilled, the best-scoring first.
        encoded_tokens: Tokens run through the model to store what was not.
    """

    stream: AnswerStream
    documents: list[Document]
    encoded_tokens: int

    def usage(self) -> dict[str, object]:
        """Sum up what the question cost and how long it took, once its text has ended."""
        answer = self.stream.answer
        encoded = answer.usage.encoded_tokens + self.encoded_tokens
        return {
            **asdict(answer.usage),
            "encoded_tokens": encoded,
            "seconds": asdict(answer.seconds),
        }


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
    return Asked(
        stream=stream,
        documents=source_documents(stream.sources, candidates.metadata),
        encoded_tokens=candidates.encoded_tokens,
    )


class Asking:
    """One question on its way: its cache is refilled first, its answer generated then.

    With asyncio both are one piece of work, so that no more than one refilled cache is in memory.

    Args:
        engine: Answers.
        ask: Asks it.
        stop: Words that end the answer.
    """

    def __init__(self, engine: ACREEngine, ask: Callable[[], Asked], stop: Sequence[str]) -> None:
        self.engine = engine
        self._ask = ask
        self._stop = stop
        self._asked: Asked | None = None
        self._text: AsyncText[Asked] | None = None

    @property
    def asked(self) -> Asked:
        """What `begin` gave."""
        if self._asked is None:
            raise RuntimeError(
                "the question was not asked yet; expected `begin` to be called first"
            )
        return self._asked

    def begin(self) -> Asked:
        """Refill the cache."""
        self._asked = self._ask()
        return self._asked

    async def abegin(self) -> Asked:
        """Refill the cache in the engine's worker, which goes on to answer."""

        def start() -> tuple[Asked, Generator[str, None, None]]:
            asked = self._ask()
            return asked, spoken(asked.stream, self._stop)

        self._text = self.engine.worker.begin(start)
        self._asked = await self._text.head()
        return self._asked

    def pieces(self) -> Generator[str, None, None]:
        """Give the answer as it comes; closing this stops the model."""
        return spoken(self.asked.stream, self._stop)

    async def apieces(self) -> AsyncGenerator[str, None]:
        """Give the answer as the worker generates it; closing this stops the model."""
        if self._text is None:
            raise RuntimeError("the worker was given nothing; expected `abegin` to be called first")
        async with aclosing(self._text.pieces()) as pieces:
            async for piece in pieces:
                yield piece

    def end(self) -> None:
        """Stop the model, if it is still at it."""
        if self._text is not None:
            self._text.stop()
        elif self._asked is not None:
            self._asked.stream.close()
