"""`ChatACRE`: an engine's model as one of the framework's chat models."""

from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from typing import Annotated, Any, Literal

from langchain_core.callbacks import (
    AsyncCallbackManagerForLLMRun,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.chat_models import (
    agenerate_from_stream,
    generate_from_stream,
)
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import ConfigDict, Field, model_validator

from acre_langchain.asking import Asked, AskSettings, ask
from acre_langchain.calls import refuse_settings
from acre_langchain.candidates import (
    MetadataFilter,
    RefillTokens,
    Scope,
    candidates_in_scope,
    versions_in_scope,
)
from acre_langchain.chunks import answer_end, completion_end, text_chunk
from acre_langchain.messages import as_question, read_turns
from acre_langchain.pieces import spoken
from acre_rag import ACREEngine, ACREError, Completion

Choice = Sequence[str] | Literal["all"]
# Given to models of any kind; a local one has no use for them.
_OF_SERVICES = frozenset({"api_key", "max_retries", "streaming", "timeout"})
# The last is the framework's own: whether to stream.
_OF_CALLS = frozenset({"max_tokens", "refill_tokens", "temperature", "stream"})


class ChatACRE(BaseChatModel):
    """Chats with an engine's model: on its own, or with stored documents in its memory.

    With documents, the last message is the question, earlier ones are text before it, and system
    messages replace the prompt's instructions; caches stay valid from one question to the next.
    `response_metadata` then tells the `sources`, and what they cost as `usage`. Decoding is greedy.

    Attributes:
        engine: Holds the model, and answers from its caches.
        documents: Ids to ask, or `"all"` that are stored; without any, the model chats by itself.
        filter: Metadata that documents must have, or a function that tells from it.
        refill_tokens: Most raw tokens to refill, or `auto`; `None` leaves it to the engine.
        max_tokens: Longest answer; the engine speaks of it as `max_new_tokens`.
        stop: Words that end an answer.
        temperature: 0, as decoding is greedy.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    engine: ACREEngine = Field(exclude=True, repr=False)
    documents: Choice = ()
    filter: MetadataFilter | None = Field(default=None, exclude=True)
    refill_tokens: RefillTokens = None
    max_tokens: Annotated[int, Field(ge=1, strict=True)] = 256
    stop: list[str] | None = None
    temperature: Annotated[float, Field(ge=0, le=0)] = 0

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_settings(cls, settings: dict[str, Any]) -> dict[str, Any]:
        # `extra="forbid"` would refuse those that every chat model of the framework is given.
        unknown = settings.keys() - cls.model_fields.keys() - _OF_SERVICES
        if unknown:
            raise ValueError(
                f"found {', '.join(sorted(unknown))}; expected settings of {cls.__name__}: use "
                f"{', '.join(cls.__annotations__)}"
            )
        return settings

    @property
    def model_name(self) -> str:
        """Name of the model that answers."""
        return self.engine.model_name

    def with_documents(
        self, documents: Choice = "all", *, filter: MetadataFilter | None = None
    ) -> "ChatACRE":
        """Make a model that has documents in its memory.

        Args:
            documents: Ids to ask, or `"all"` that are stored.
            filter: Metadata that documents must have, or a function that tells from it.
        """
        own = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**{**own, "documents": documents, "filter": filter})

    def get_token_ids(self, text: str) -> list[int]:
        """Encode text with the model's own tokenizer."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        return self.engine.token_ids(text) if text else []

    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """Count the tokens of messages as the chat template lays them out, an answer begun.

        Documents are not counted: what of them fills the context depends on the question.

        Raises:
            ACREError: A message, or a tool, is nothing that the model reads.
        """
        if tools:
            raise ACREError(
                f"found {len(tools)} tools to count; expected none, as the model calls no tools: "
                "leave them out"
            )
        return len(self.engine.token_ids(read_turns(messages))) if messages else 0

    @property
    def _llm_type(self) -> str:
        return "acre"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return {
            "model_name": self.model_name,
            "documents": self.documents if self.documents == "all" else list(self.documents),
            "refill_tokens": self.refill_tokens,
            "max_tokens": self.max_tokens,
            "stop": self.stop,
        }

    def _get_llm_string(
        self,
        stop: list[str] | None = None,
        **kwargs: Any,  # noqa: ANN401  # settings of one call
    ) -> str:
        """Name all that an answer depends on, for the framework's caches of answers."""
        named = super()._get_llm_string(stop=stop, **kwargs)
        scope = self._scope()
        stored = versions_in_scope(self.engine, scope) if scope is not None else None
        return f"{named} {self.engine.fingerprint} {stored}"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,  # noqa: ANN401  # settings of one call
    ) -> ChatResult:
        return generate_from_stream(self._stream(messages, stop, run_manager, **kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002  # the base class tells it
        **kwargs: Any,  # noqa: ANN401  # settings of one call
    ) -> Iterator[ChatGenerationChunk]:
        said, pieces = self._begin(messages, stop, kwargs)
        with closing(pieces):
            for piece in pieces:
                yield text_chunk(piece)
        yield self._end(said)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,  # noqa: ANN401  # settings of one call
    ) -> ChatResult:
        return await agenerate_from_stream(self._astream(messages, stop, run_manager, **kwargs))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,  # noqa: ANN401  # settings of one call
    ) -> AsyncIterator[ChatGenerationChunk]:
        text = self.engine.worker.begin(lambda: self._begin(messages, stop, kwargs))
        said = await text.head()
        async with aclosing(text.pieces()) as pieces:
            async for piece in pieces:
                yield text_chunk(piece)
        yield self._end(said)

    def _begin(
        self, messages: list[BaseMessage], stop: Sequence[str] | None, call: Mapping[str, Any]
    ) -> tuple[Asked | Completion, Generator[str, None, None]]:
        """Give what is said, and its text; `call` holds settings of this call alone."""
        refuse_settings(
            call.keys() - _OF_CALLS,
            f"a call takes stop, {', '.join(sorted(_OF_CALLS - {'stream'}))}; name documents by "
            "with_documents, and make a ChatACRE with the others, or use its configurable_fields",
        )
        if call.get("temperature"):
            raise ACREError(
                f"temperature is {call['temperature']}; expected 0, as decoding is greedy: leave "
                "it out"
            )
        asked_for = call.get("max_tokens")
        length = self.max_tokens if asked_for is None else asked_for
        turns = read_turns(messages)
        words = (self.stop or []) if stop is None else stop
        scope = self._scope()
        if scope is None:
            completion = self.engine.complete(turns, length)
            return completion, spoken(completion, words)
        conversation = as_question(turns)
        settings = AskSettings(
            refill_tokens=call.get("refill_tokens", self.refill_tokens),
            max_new_tokens=length,
            instructions=conversation.instructions,
        )
        candidates = candidates_in_scope(self.engine, scope)
        asked = ask(self.engine, conversation.question, candidates, settings)
        return asked, spoken(asked.stream, words)

    def _end(self, said: Asked | Completion) -> ChatGenerationChunk:
        if isinstance(said, Completion):
            return completion_end(said, self.model_name)
        return answer_end(said, self.model_name)

    def _scope(self) -> Scope | None:
        if not self.documents:
            return None
        ids = None if self.documents == "all" else self.documents
        return Scope(documents=ids, filter=self.filter)
