"""`ACRELLM`: an engine's model as one of the framework's ordinary LLMs."""

from collections.abc import Sequence
from contextlib import aclosing
from typing import TypeAlias

from llama_index.core.base.llms.generic_utils import (
    astream_completion_response_to_chat_response,
    completion_response_to_chat_response,
    stream_completion_response_to_chat_response,
)
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
)
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms import CustomLLM
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback

from acre_llama_index.messages import pairs_of
from acre_rag import ACREEngine, AsyncText, Completion

Prompt: TypeAlias = str | list[tuple[str, str]]


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
        super().__init__(
            max_new_tokens=max_new_tokens, callback_manager=callback_manager or CallbackManager([])
        )
        self._engine = engine if engine is not None else ACREEngine()

    @classmethod
    def class_name(cls) -> str:
        """Name the class as the framework's serialization wants it."""
        return "ACRELLM"

    @property
    def engine(self) -> ACREEngine:
        """What holds the model."""
        return self._engine

    @property
    def metadata(self) -> LLMMetadata:
        """Sizes of the model."""
        return LLMMetadata(
            context_window=self._engine.context_tokens,
            num_output=self.max_new_tokens,
            is_chat_model=True,
            model_name=self._engine.model_name,
        )

    @llm_completion_callback()
    def complete(
        self, prompt: str, formatted: bool = False, **_unused: object
    ) -> CompletionResponse:
        """Complete a prompt: as it stands if it is formatted, else as a user's message."""
        return _whole(self._speak(_prompt(prompt, formatted)))

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **_unused: object
    ) -> CompletionResponseGen:
        """Complete a prompt, giving the text as it comes."""
        return _grow(self._speak(_prompt(prompt, formatted)))

    @llm_completion_callback()
    async def acomplete(
        self, prompt: str, formatted: bool = False, **_unused: object
    ) -> CompletionResponse:
        """Complete a prompt in the engine's worker."""
        return await self._awhole(_prompt(prompt, formatted))

    @llm_completion_callback()
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **_unused: object
    ) -> CompletionResponseAsyncGen:
        """Complete a prompt in the engine's worker, giving the text as it comes."""
        return await self._agrow(_prompt(prompt, formatted))

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **_unused: object) -> ChatResponse:
        """Answer messages."""
        return completion_response_to_chat_response(_whole(self._speak(pairs_of(messages))))

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **_unused: object) -> ChatResponseGen:
        """Answer messages, giving the text as it comes."""
        return stream_completion_response_to_chat_response(_grow(self._speak(pairs_of(messages))))

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **_unused: object) -> ChatResponse:
        """Answer messages in the engine's worker."""
        return completion_response_to_chat_response(await self._awhole(pairs_of(messages)))

    @llm_chat_callback()
    async def astream_chat(
        self, messages: Sequence[ChatMessage], **_unused: object
    ) -> ChatResponseAsyncGen:
        """Answer messages in the engine's worker, giving the text as it comes."""
        return astream_completion_response_to_chat_response(await self._agrow(pairs_of(messages)))

    def _speak(self, prompt: Prompt) -> Completion:
        return self._engine.complete(prompt, self.max_new_tokens)

    async def _agrow(self, prompt: Prompt) -> CompletionResponseAsyncGen:
        def start() -> tuple[Completion, Completion]:
            completion = self._speak(prompt)
            return completion, completion

        text = self._engine.worker.begin(start)
        return _grow_async(await text.head(), text)

    async def _awhole(self, prompt: Prompt) -> CompletionResponse:
        parts = [part async for part in await self._agrow(prompt)]
        return parts[-1] if parts else CompletionResponse(text="")


def _prompt(prompt: str, formatted: bool) -> Prompt:
    return prompt if formatted else [("user", prompt)]


def _whole(completion: Completion) -> CompletionResponse:
    with completion:
        text = "".join(completion)
    return _response(completion, text)


def _grow(completion: Completion) -> CompletionResponseGen:
    text = ""
    with completion:
        for piece in completion:
            text += piece
            yield _response(completion, text, piece)


async def _grow_async(
    completion: Completion, spoken: AsyncText[Completion]
) -> CompletionResponseAsyncGen:
    text = ""
    async with aclosing(spoken.pieces()) as pieces:
        async for piece in pieces:
            text += piece
            yield _response(completion, text, piece)


def _response(completion: Completion, text: str, piece: str | None = None) -> CompletionResponse:
    """Give the text so far, with the counts that the framework's token counter looks for."""
    usage = {
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.new_tokens,
    }
    return CompletionResponse(text=text, delta=piece, raw={"usage": usage})
