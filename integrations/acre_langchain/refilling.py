"""The two runs inside an answer that the framework's instruments know: a retriever, a chat model.

Both show what one question to an engine does, so that its selection serves for both.
"""

from collections.abc import AsyncIterator, Iterator
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
from pydantic import ConfigDict, Field

from acre_langchain.asking import Asking
from acre_langchain.chunks import answer_end, text_chunk


class ACRERefill(BaseRetriever):
    """Refills the cache for one question, and gives what was refilled.

    Attributes:
        asking: The question.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    asking: Asking = Field(exclude=True, repr=False)

    def _get_relevant_documents(
        self,
        query: str,  # noqa: ARG002  # it is what is asked
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002  # the base class passes it
    ) -> list[Document]:
        return self.asking.begin().documents

    async def _aget_relevant_documents(
        self,
        query: str,  # noqa: ARG002
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,  # noqa: ARG002
    ) -> list[Document]:
        return (await self.asking.abegin()).documents


class ACREAnswer(BaseChatModel):
    """Says the answer to one question whose cache has been refilled.

    Attributes:
        asking: The question.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    asking: Asking = Field(exclude=True, repr=False)

    @property
    def model_name(self) -> str:
        """Name of the model that answers."""
        return self.asking.engine.model_name

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
        stop: list[str] | None = None,  # noqa: ARG002  # the question has them
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,  # noqa: ANN401, ARG002  # the base class has it
    ) -> Iterator[ChatGenerationChunk]:
        with closing(self.asking.pieces()) as pieces:
            for piece in pieces:
                yield text_chunk(piece)
        yield answer_end(self.asking.asked, self.model_name)

    async def _astream(
        self,
        messages: list[BaseMessage],  # noqa: ARG002  # they are in the cache
        stop: list[str] | None = None,  # noqa: ARG002  # the question has them
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,  # noqa: ANN401, ARG002  # the base class has it
    ) -> AsyncIterator[ChatGenerationChunk]:
        async with aclosing(self.asking.apieces()) as pieces:
            async for piece in pieces:
                yield text_chunk(piece)
        yield answer_end(self.asking.asked, self.model_name)
