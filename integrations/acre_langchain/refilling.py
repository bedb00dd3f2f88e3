"""The two runs inside an answer that the framework's instruments know: a retriever, a chat model.

Both show what one question to an engine does, so that its selection serves for both.
"""

from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import aclosing, closing
from typing import Any

from langchain_core.callbacks import (
    AsyncCallbackManagerForLLMRun,
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForLLMRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, Field, PrivateAttr

from acre_langchain.asking import Asked
from acre_langchain.chunks import spoken_chunks
from acre_langchain.worker import worker_of
from acre_rag import ACREEngine


class ACRERefill(BaseRetriever):
    """Refills the cache for one question, and gives what was refilled.

    Attributes:
        engine: Refills.
        ask: Asks it.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    engine: ACREEngine = Field(exclude=True, repr=False)
    ask: Callable[[str], Asked] = Field(exclude=True, repr=False)
    _asked: Asked | None = PrivateAttr(default=None)

    @property
    def asked(self) -> Asked:
        """The question, once this was invoked with it."""
        if self._asked is None:
            raise RuntimeError("nothing was asked yet; invoke this with the question first")
        return self._asked

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002  # the base class passes it
    ) -> list[Document]:
        self._asked = self.ask(query)
        return self._asked.documents

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,  # noqa: ARG002
    ) -> list[Document]:
        self._asked = await worker_of(self.engine).run(lambda: self.ask(query))
        return self._asked.documents


class ACREAnswer(BaseChatModel):
    """Says the answer to one question whose cache has been refilled.

    Attributes:
        asked: The question.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    asked: Asked = Field(exclude=True, repr=False)

    @property
    def model_name(self) -> str:
        """Name of the model that answers."""
        return self.asked.engine.reader.local.name

    @property
    def _llm_type(self) -> str:
        return "acre"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,  # noqa: ANN401  # the base class has it
    ) -> ChatResult:
        return generate_from_stream(self._stream(messages, stop, run_manager, **kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],  # noqa: ARG002  # they are in the cache
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,  # noqa: ANN401, ARG002  # the base class has it
    ) -> Iterator[ChatGenerationChunk]:
        with closing(self._chunks(stop)) as chunks:
            yield from chunks

    async def _astream(
        self,
        messages: list[BaseMessage],  # noqa: ARG002  # they are in the cache
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,  # noqa: ANN401, ARG002  # the base class has it
    ) -> AsyncIterator[ChatGenerationChunk]:
        worker = worker_of(self.asked.engine)
        async with aclosing(worker.stream(lambda: self._chunks(stop))) as chunks:
            async for chunk in chunks:
                yield chunk

    def _chunks(self, stop: list[str] | None) -> Generator[ChatGenerationChunk, None, None]:
        return spoken_chunks(self.asked, stop or [], self.model_name)
