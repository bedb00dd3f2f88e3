"""`ACRESynthesizer`: answers from the caches of nodes, in place of their text."""

from collections.abc import Sequence

from llama_index.core.base.response.schema import (
    RESPONSE_TYPE,
    AsyncStreamingResponse,
    Response,
    StreamingResponse,
)
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms import LLM
from llama_index.core.prompts.mixin import PromptDictType
from llama_index.core.response_synthesizers import BaseSynthesizer
from llama_index.core.schema import NodeWithScore, QueryBundle, QueryType, TextNode
from llama_index.core.types import RESPONSE_TEXT_TYPE

from acre_llama_index.asking import Asking, AskSettings, ask, begin
from acre_llama_index.candidates import candidates_of_nodes, drop_passages
from acre_llama_index.events import tell_refilled
from acre_llama_index.llm import ACRELLM
from acre_llama_index.responses import (
    ACREAsyncStreamingResponse,
    ACREStreamingResponse,
    Answering,
)
from acre_llama_index.telling import Generating, synthesizing
from acre_rag import ACREEngine, AsyncText, RefillTokens


class ACRESynthesizer(BaseSynthesizer):
    """Answers a question from the caches of the documents that nodes come from.

    A node stands for its document where the engine has that, else for its own text, which is
    read on first use and found again by content; `drop_passages` deletes such texts. The
    response's source nodes are what was refilled, the best-scoring first.

    Args:
        engine: Reads and answers; `None` makes one with the default model and store.
        streaming: Give answers as they are generated.
        refill_tokens: Most raw tokens to refill, or `auto`; `None` leaves it to the engine.
        max_new_tokens: Longest answer.
        instructions: Replaces the prompt's own.
        callback_manager: The framework's older instruments.
    """

    def __init__(
        self,
        engine: ACREEngine | None = None,
        streaming: bool = False,
        *,
        refill_tokens: RefillTokens = None,
        max_new_tokens: int = 64,
        instructions: str | None = None,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        self.engine = engine if engine is not None else ACREEngine()
        self.settings = AskSettings(
            refill_tokens=refill_tokens, max_new_tokens=max_new_tokens, instructions=instructions
        )
        # Without an LLM the base class would ask for one of OpenAI.
        llm: LLM = ACRELLM(engine=self.engine)
        super().__init__(llm=llm, streaming=streaming, callback_manager=callback_manager)

    @property
    def streaming(self) -> bool:
        """Whether answers are given as they are generated."""
        return self._streaming

    def drop_passages(self) -> int:
        """Delete what was stored because nodes gave its text; returns how many texts there were.

        The engine's own documents stay. A text that is given again is read again.
        """
        return drop_passages(self.engine)

    def synthesize(
        self,
        query: QueryType,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
        **_unused: object,
    ) -> RESPONSE_TYPE:
        """Answer from the caches of nodes; without any text, say the framework's empty response."""
        bundle = _bundle(query)
        with synthesizing(self._callback_manager, bundle) as tell:
            response = self.respond(self._ask(bundle.query_str, nodes), bundle.query_str)
            response.source_nodes = [*response.source_nodes, *(additional_source_nodes or [])]
            tell(response)
        return response

    async def asynthesize(
        self,
        query: QueryType,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
        **_unused: object,
    ) -> RESPONSE_TYPE:
        """Answer as `synthesize` does, in the engine's worker."""
        bundle = _bundle(query)
        with synthesizing(self._callback_manager, bundle) as tell:
            text = begin(self.engine, lambda: self._ask(bundle.query_str, nodes))
            response = await self.arespond(await text.head(), bundle.query_str, text)
            response.source_nodes = [*response.source_nodes, *(additional_source_nodes or [])]
            tell(response)
        return response

    def respond(self, asking: Asking | None, question: str) -> Response | StreamingResponse:
        """Turn a question into a response, streaming or not."""
        streaming = StreamingResponse(self._empty_response_generator())
        if asking is not None:
            streaming = ACREStreamingResponse(self._answering(asking, question))
        return streaming if self._streaming else streaming.get_response()

    async def arespond(
        self, asking: Asking | None, question: str, text: AsyncText[Asking | None]
    ) -> Response | AsyncStreamingResponse:
        """Turn a question that the worker answers into a response, streaming or not."""
        streaming = AsyncStreamingResponse(self._empty_response_agenerator())
        if asking is not None:
            streaming = ACREAsyncStreamingResponse(self._answering(asking, question), text)
        return streaming if self._streaming else await streaming.get_response()

    def get_response(
        self, query_str: str, text_chunks: Sequence[str], **_unused: object
    ) -> RESPONSE_TEXT_TYPE:
        """Answer from texts, each found by its content or read now."""
        response = self.respond(self._ask(query_str, _nodes(text_chunks)), query_str)
        return response.response_gen if isinstance(response, StreamingResponse) else str(response)

    async def aget_response(
        self, query_str: str, text_chunks: Sequence[str], **_unused: object
    ) -> RESPONSE_TEXT_TYPE:
        """Answer as `get_response` does, in the engine's worker."""
        text = begin(self.engine, lambda: self._ask(query_str, _nodes(text_chunks)))
        response = await self.arespond(await text.head(), query_str, text)
        if isinstance(response, AsyncStreamingResponse):
            return response.response_gen
        return str(response)

    def _answering(self, asking: Asking, question: str) -> Answering:
        tell_refilled(asking)
        generating = Generating(
            self._callback_manager, self._llm, question, asking, streaming=self._streaming
        )
        return Answering(asking, generating)

    def _ask(self, question: str, nodes: Sequence[NodeWithScore]) -> Asking | None:
        return ask(self.engine, question, candidates_of_nodes(self.engine, nodes), self.settings)

    def _get_prompts(self) -> PromptDictType:
        return {}

    def _update_prompts(self, prompts: PromptDictType) -> None:
        """Nothing to do: the engine's prompt is part of every cache."""


def _nodes(texts: Sequence[str]) -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(text=text)) for text in texts]


def _bundle(query: QueryType) -> QueryBundle:
    return query if isinstance(query, QueryBundle) else QueryBundle(query)
