"""`ACRELLM`: an engine's model as one of the framework's ordinary LLMs."""

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing

from llama_index.core.base.llms.generic_utils import (
    astream_completion_response_to_chat_response,
    completion_response_to_chat_response,
)
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
)
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms import CustomLLM
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback

from acre_llama_index.generation import generate, render_messages
from acre_llama_index.worker import worker_of
from acre_rag import ACREEngine


class ACRELLM(CustomLLM):
    """The model of an engine, without its documents.

    Args:
        engine: Holds the model; `None` makes one with the default model and store.
        max_new_tokens: Longest completion.
        callback_manager: The framework's older instruments.
    """

    max_new_tokens: int
    _engine: ACREEngine = PrivateAttr()

    def __init__(
        self,
        engine: ACREEngine | None = None,
        max_new_tokens: int = 256,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        engine = engine if engine is not None else ACREEngine()
        local = engine.reader.local
        super().__init__(
            max_new_tokens=max_new_tokens,
            callback_manager=callback_manager or CallbackManager([]),
            # Functions, not methods: the base class shows its fields, and would show itself.
            messages_to_prompt=lambda messages: render_messages(local, messages),
            completion_to_prompt=lambda prompt: render_messages(
                local, [ChatMessage(content=prompt)]
            ),
        )
        self._engine = engine

    @classmethod
    def class_name(cls) -> str:
        """Name the class as the framework's serialization wants it."""
        return "ACRELLM"

    @property
    def metadata(self) -> LLMMetadata:
        """Sizes of the model."""
        reader = self._engine.reader
        return LLMMetadata(
            context_window=reader.context_tokens,
            num_output=self.max_new_tokens,
            is_chat_model=bool(reader.local.tokenizer.chat_template),
            model_name=reader.local.name,
        )

    @llm_completion_callback()
    def complete(
        self, prompt: str, formatted: bool = False, **_unused: object
    ) -> CompletionResponse:
        """Complete a prompt."""
        return CompletionResponse(text="".join(self._pieces(prompt, formatted)))

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **_unused: object
    ) -> CompletionResponseGen:
        """Complete a prompt, giving the text as it comes."""
        return _grow(self._pieces(prompt, formatted))

    @llm_completion_callback()
    async def acomplete(
        self, prompt: str, formatted: bool = False, **_unused: object
    ) -> CompletionResponse:
        """Complete a prompt in the engine's worker."""
        text = ""
        async for piece in self._async_pieces(prompt, formatted):
            text += piece
        return CompletionResponse(text=text)

    @llm_completion_callback()
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **_unused: object
    ) -> CompletionResponseAsyncGen:
        """Complete a prompt in the engine's worker, giving the text as it comes."""
        return _grow_async(self._async_pieces(prompt, formatted))

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **_unused: object) -> ChatResponse:
        """Answer messages in the engine's worker."""
        completion = await self.acomplete(self._render(messages), formatted=True)
        return completion_response_to_chat_response(completion)

    @llm_chat_callback()
    async def astream_chat(
        self, messages: Sequence[ChatMessage], **_unused: object
    ) -> ChatResponseAsyncGen:
        """Answer messages in the engine's worker, giving the text as it comes."""
        completion = await self.astream_complete(self._render(messages), formatted=True)
        return astream_completion_response_to_chat_response(completion)

    def _render(self, messages: Sequence[ChatMessage]) -> str:
        return render_messages(self._engine.reader.local, messages)

    def _pieces(self, prompt: str, formatted: bool) -> Generator[str, None, None]:
        rendered = prompt if formatted else self._render([ChatMessage(content=prompt)])
        return generate(self._engine, rendered, self.max_new_tokens)

    async def _async_pieces(self, prompt: str, formatted: bool) -> AsyncGenerator[str, None]:
        work = worker_of(self._engine).begin(lambda: (None, self._pieces(prompt, formatted)))
        await work.head()
        async with aclosing(work.pieces()) as pieces:
            async for piece in pieces:
                yield piece


def _grow(pieces: Generator[str, None, None]) -> CompletionResponseGen:
    text = ""
    for piece in pieces:
        text += piece
        yield CompletionResponse(text=text, delta=piece)


async def _grow_async(pieces: AsyncGenerator[str, None]) -> CompletionResponseAsyncGen:
    text = ""
    async for piece in pieces:
        text += piece
        yield CompletionResponse(text=text, delta=piece)
