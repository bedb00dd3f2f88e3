"""`ACRESynthesizer`: answers from the caches of nodes, in place of their text."""

from collections.abc import Sequence

from llama_index.core.base.response.schema import (
    RESPONSE_TYPE,
    AsyncStreamingResponse,
    Response,
    StreamingResponse,
)
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.instrumentation.events.synthesis import (
    SynthesizeEndEvent,
    SynthesizeStartEvent,
)
from llama_index.core.llms import LLM
from llama_index.core.prompts.mixin import PromptDictType
from llama_index.core.response_synthesizers import BaseSynthesizer
from llama_index.core.schema import NodeWithScore, QueryBundle, QueryType, TextNode
from llama_index.core.types import RESPONSE_TEXT_TYPE

from acre_llama_index.asking import Asking, AskSettings, ask, begin
from acre_llama_index.candidates import candidates_of_nodes, drop_passages
from acre_llama_index.events import dispatcher
from acre_llama_index.llm import ACRELLM
from acre_llama_index.responses import Answering
from acre_llama_index.worker import AsyncText, worker_of
from acre_rag import ACREEngine


class ACRESynthesizer(BaseSynthesizer):
    """Answers a question from the caches of the documents that nodes come from.

    A node stands for its document where the engine has that, else for its own text, which is
    read on first use and found again by content; `drop_passages` deletes such texts. The
    response's source nodes are what was refilled, the best-scoring first.

    Args:
        engine: Reads and answers; `None` makes one with the default model and store.
        streaming: Give answers as they are generated.
        refill_tokens: Most raw tokens to refill; `None` leaves it to the engine.
        max_new_tokens: Longest answer.
        instructions: Replaces the prompt's own.
        callback_manager: The framework's older instruments.
    """

    def __init__(
        self,
        engine: ACREEngine | None = None,
        streaming: bool = False,
        *,
        refill_tokens: int | None = None,
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
        bundle = query if isinstance(query, QueryBundle) else QueryBundle(query)
        dispatcher.event(SynthesizeStartEvent(query=query))
        with self._callback_manager.event(
            CBEventType.SYNTHESIZE, payload={EventPayload.QUERY_STR: bundle.query_str}
        ) as event:
            asking = self._ask(bundle.query_str, nodes)
            response = self.respond(asking, bundle.query_str)
            response.source_nodes = [*response.source_nodes, *(additional_source_nodes or [])]
            event.on_end(payload={EventPayload.RESPONSE: response})
        dispatcher.event(SynthesizeEndEvent(query=query, response=response))
        return response

    async def asynthesize(
        self,
        query: QueryType,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
        **_unused: object,
    ) -> RESPONSE_TYPE:
        """Answer as `synthesize` does, in the engine's worker."""
        bundle = query if isinstance(query, QueryBundle) else QueryBundle(query)
        dispatcher.event(SynthesizeStartEvent(query=query))
        with self._callback_manager.event(
            CBEventType.SYNTHESIZE, payload={EventPayload.QUERY_STR: bundle.query_str}
        ) as event:
            work = worker_of(self.engine).begin(lambda: begin(self._ask(bundle.query_str, nodes)))
            response = await self.arespond(await work.head(), bundle.query_str, work)
            response.source_nodes = [*response.source_nodes, *(additional_source_nodes or [])]
            event.on_end(payload={EventPayload.RESPONSE: response})
        dispatcher.event(SynthesizeEndEvent(query=query, response=response))
        return response

    def respond(self, asking: Asking | None, question: str) -> Response | StreamingResponse:
        """Turn a question into a response, streaming or not."""
        if asking is None:
            if self._streaming:
                return StreamingResponse(self._empty_response_generator())
            return Response(self._empty_response)
        answering = Answering(asking, question, self._callback_manager)
        return answering.stream() if self._streaming else answering.respond()

    async def arespond(
        self, asking: Asking | None, question: str, work: AsyncText[Asking | None]
    ) -> Response | AsyncStreamingResponse:
        """Turn a question that the worker answers into a response, streaming or not."""
        if asking is None:
            if self._streaming:
                return AsyncStreamingResponse(self._empty_response_agenerator())
            return Response(self._empty_response)
        answering = Answering(asking, question, self._callback_manager)
        return answering.astream(work) if self._streaming else await answering.arespond(work)

    def get_response(
        self, query_str: str, text_chunks: Sequence[str], **_unused: object
    ) -> RESPONSE_TEXT_TYPE:
        """Answer from texts, each found by its content or read now."""
        asking = self._ask(query_str, _nodes(text_chunks))
        response = self.respond(asking, query_str)
        if isinstance(response, StreamingResponse):
            return response.response_gen
        return response.response or ""

    async def aget_response(
        self, query_str: str, text_chunks: Sequence[str], **_unused: object
    ) -> RESPONSE_TEXT_TYPE:
        """Answer as `get_response` does, in the engine's worker."""
        work = worker_of(self.engine).begin(
            lambda: begin(self._ask(query_str, _nodes(text_chunks)))
        )
        response = await self.arespond(await work.head(), query_str, work)
        if isinstance(response, AsyncStreamingResponse):
            return response.response_gen
        return response.response or ""

    def _ask(self, question: str, nodes: Sequence[NodeWithScore]) -> Asking | None:
        return ask(self.engine, question, candidates_of_nodes(self.engine, nodes), self.settings)

    def _get_prompts(self) -> PromptDictType:
        return {}

    def _update_prompts(self, prompts: PromptDictType) -> None:
        """Nothing to do: the engine's prompt is part of every cache."""


def _nodes(texts: Sequence[str]) -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(text=text)) for text in texts]
