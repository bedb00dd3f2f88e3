"""`ACREAnswerChain`: a question in; documents, the answer's text and its costs out."""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Annotated, Any

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.documents import Document
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable
from pydantic import ConfigDict, Field

from acre_langchain.asking import Asked, Asking, AskSettings, ask
from acre_langchain.calls import refuse_settings
from acre_langchain.candidates import (
    MetadataFilter,
    RefillTokens,
    Scope,
    candidates_in_scope,
    candidates_of,
    drop_passages,
)
from acre_langchain.output import ACREOutput, last_output, whole_output
from acre_langchain.refilling import ACREAnswer, ACRERefill
from acre_rag import ACREEngine, ACREError

_REMEDY = "make an ACREAnswerChain with them, or use its configurable_fields"


class ACREAnswerChain(RunnableSerializable[str, dict[str, Any]]):
    """Answers questions from the caches of documents, refilled where the question looks.

    Gives a dict of `context` (what was refilled, as documents, the best-scoring first), `answer`
    and `usage`; a stream gives them in this order, the answer in pieces. Notebooks show a whole
    one with its refill map.

    Attributes:
        engine: Reads and answers.
        retriever: Stands in front: the documents that its own come from are asked, from their
            caches; what is not stored yet is read now. `None` asks the engine's documents.
        documents: Without a retriever: ids to ask; `None` asks all that are stored.
        filter: Without a retriever: metadata that documents must have, or a function that tells
            from it.
        refill_tokens: Most raw tokens to refill, or `auto`; `None` leaves it to the engine.
        max_new_tokens: Longest answer.
        instructions: Replaces the prompt's own.
        stop: Words that end an answer.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    engine: ACREEngine = Field(exclude=True, repr=False)
    retriever: Runnable[str, list[Document]] | None = None
    documents: Sequence[str] | None = None
    filter: MetadataFilter | None = Field(default=None, exclude=True)
    refill_tokens: RefillTokens = None
    max_new_tokens: Annotated[int, Field(ge=1, strict=True)] = 64
    instructions: str | None = None
    stop: list[str] | None = None

    def invoke(
        self,
        input: str,
        config: RunnableConfig | None = None,
        **kwargs: Any,  # noqa: ANN401  # the base class has it
    ) -> ACREOutput:
        """Answer a question."""
        return whole_output(list(self.stream(input, config, **kwargs)))

    async def ainvoke(
        self,
        input: str,
        config: RunnableConfig | None = None,
        **kwargs: Any,  # noqa: ANN401  # the base class has it
    ) -> ACREOutput:
        """Answer a question in the engine's worker."""
        return whole_output([part async for part in self.astream(input, config, **kwargs)])

    def stream(
        self,
        input: str,
        config: RunnableConfig | None = None,
        **kwargs: Any,  # noqa: ANN401  # the base class has it
    ) -> Iterator[dict[str, Any]]:
        """Answer a question as it is generated; closing this stops the model."""
        yield from self.transform(iter([input]), config, **kwargs)

    async def astream(
        self,
        input: str,
        config: RunnableConfig | None = None,
        **kwargs: Any,  # noqa: ANN401  # the base class has it
    ) -> AsyncIterator[dict[str, Any]]:
        """Answer a question as the worker generates it; closing this stops the model."""

        async def given() -> AsyncIterator[str]:
            yield input

        async for part in self.atransform(given(), config, **kwargs):
            yield part

    def transform(
        self,
        input: Iterator[str],
        config: RunnableConfig | None = None,
        **kwargs: Any,  # noqa: ANN401  # the base class has it
    ) -> Iterator[dict[str, Any]]:
        """Answer a question that itself comes in pieces."""
        refuse_settings(kwargs, _REMEDY)
        yield from self._transform_stream_with_config(input, self._answer, config)

    async def atransform(
        self,
        input: AsyncIterator[str],
        config: RunnableConfig | None = None,
        **kwargs: Any,  # noqa: ANN401  # the base class has it
    ) -> AsyncIterator[dict[str, Any]]:
        """Answer a question that itself comes in pieces, in the engine's worker."""
        refuse_settings(kwargs, _REMEDY)
        async for part in self._atransform_stream_with_config(input, self._aanswer, config):
            yield part

    def drop_passages(self) -> int:
        """Delete what was read for passages of other retrievers alone; how many were there?"""
        return drop_passages(self.engine)

    def _answer(
        self,
        pieces: Iterator[str],
        run_manager: CallbackManagerForChainRun,  # noqa: ARG002  # the configuration has it too
        config: RunnableConfig,
    ) -> Iterator[dict[str, Any]]:
        question = _joined(list(pieces))
        found: list[Document] = []
        if self.retriever is not None:
            found = self.retriever.invoke(question, config)
        asking = self._asking(question, found)
        try:
            yield ACREOutput(context=ACRERefill(asking=asking).invoke(question, config))
            for chunk in ACREAnswer(asking=asking).stream(question, config):
                yield ACREOutput(answer=str(chunk.text))
        finally:
            asking.end()
        yield last_output(asking.asked)

    async def _aanswer(
        self,
        pieces: AsyncIterator[str],
        run_manager: AsyncCallbackManagerForChainRun,  # noqa: ARG002
        config: RunnableConfig,
    ) -> AsyncIterator[dict[str, Any]]:
        question = _joined([piece async for piece in pieces])
        found: list[Document] = []
        if self.retriever is not None:
            found = await self.retriever.ainvoke(question, config)
        asking = self._asking(question, found)
        try:
            yield ACREOutput(context=await ACRERefill(asking=asking).ainvoke(question, config))
            async for chunk in ACREAnswer(asking=asking).astream(question, config):
                yield ACREOutput(answer=str(chunk.text))
        finally:
            asking.end()
        yield last_output(asking.asked)

    def _asking(self, question: str, found: list[Document]) -> Asking:
        settings = AskSettings(
            refill_tokens=self.refill_tokens,
            max_new_tokens=self.max_new_tokens,
            instructions=self.instructions,
        )

        def ask_now() -> Asked:
            if self.retriever is not None:
                candidates = candidates_of(self.engine, found)
            else:
                scope = Scope(documents=self.documents, filter=self.filter)
                candidates = candidates_in_scope(self.engine, scope)
            return ask(self.engine, question, candidates, settings)

        return Asking(self.engine, ask_now, self.stop or [])


def _joined(pieces: Sequence[object]) -> str:
    """Put a question together."""
    question = ""
    for piece in pieces:
        if not isinstance(piece, str):
            raise ACREError(
                f"the question is a {type(piece).__name__}; expected a string: pick it out "
                "first, as in itemgetter('question') | chain"
            )
        question += piece
    return question
