"""The framework's own events around a question, in both of its systems of instruments."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TypeAlias

from llama_index.core.base.response.schema import RESPONSE_TYPE
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.instrumentation.events.exception import ExceptionEvent
from llama_index.core.instrumentation.events.llm import (
    LLMCompletionEndEvent,
    LLMCompletionInProgressEvent,
    LLMCompletionStartEvent,
)
from llama_index.core.instrumentation.events.retrieval import (
    RetrievalEndEvent,
    RetrievalStartEvent,
)
from llama_index.core.instrumentation.events.synthesis import (
    SynthesizeEndEvent,
    SynthesizeStartEvent,
)
from llama_index.core.instrumentation.span import active_span_id
from llama_index.core.llms import LLM, CompletionResponse
from llama_index.core.schema import NodeWithScore, QueryBundle

from acre_llama_index.asking import Asking
from acre_llama_index.events import dispatcher

# Each of the contexts below gives a function that is told the result; none is told of a failure.
TellNodes: TypeAlias = Callable[[Sequence[NodeWithScore]], None]
TellResponse: TypeAlias = Callable[[RESPONSE_TYPE], None]


@contextmanager
def querying(callbacks: CallbackManager, query: QueryBundle) -> Iterator[TellResponse]:
    """Tell of a query; its newer events are the base class's."""
    with callbacks.event(
        CBEventType.QUERY, payload={EventPayload.QUERY_STR: query.query_str}
    ) as event:
        yield lambda response: event.on_end(payload={EventPayload.RESPONSE: response})


@contextmanager
def retrieving(callbacks: CallbackManager, query: QueryBundle) -> Iterator[TellNodes]:
    """Tell of a retrieval."""
    dispatcher.event(RetrievalStartEvent(str_or_query_bundle=query))
    with callbacks.event(
        CBEventType.RETRIEVE, payload={EventPayload.QUERY_STR: query.query_str}
    ) as event:

        def tell(nodes: Sequence[NodeWithScore]) -> None:
            event.on_end(payload={EventPayload.NODES: nodes})
            dispatcher.event(RetrievalEndEvent(str_or_query_bundle=query, nodes=list(nodes)))

        yield tell


@contextmanager
def synthesizing(callbacks: CallbackManager, query: QueryBundle) -> Iterator[TellResponse]:
    """Tell of a synthesis."""
    dispatcher.event(SynthesizeStartEvent(query=query))
    with callbacks.event(
        CBEventType.SYNTHESIZE, payload={EventPayload.QUERY_STR: query.query_str}
    ) as event:

        def tell(response: RESPONSE_TYPE) -> None:
            event.on_end(payload={EventPayload.RESPONSE: response})
            dispatcher.event(SynthesizeEndEvent(query=query, response=response))

        yield tell


class Generating:
    """Tells of one generated answer; as a context, of how it ended.

    An answer that its reader stops counts as one that ended there; a failure is told as such.

    Args:
        callbacks: The framework's older instruments.
        llm: What answers.
        question: What it is asked.
        asking: The question's course, which counts tokens.
        streaming: Tell of every piece too, as the framework does where text is streamed.
    """

    def __init__(
        self,
        callbacks: CallbackManager,
        llm: LLM,
        question: str,
        asking: Asking,
        *,
        streaming: bool,
    ) -> None:
        self._callbacks = callbacks
        self._question = question
        self._asking = asking
        self._streaming = streaming
        self._text = ""
        self._span_id = active_span_id.get()  # a stream may be read outside of it
        model = llm.to_payload()
        self._id = callbacks.on_event_start(
            CBEventType.LLM,
            payload={EventPayload.PROMPT: question, EventPayload.SERIALIZED: model},
        )
        dispatcher.event(
            LLMCompletionStartEvent(
                prompt=question, additional_kwargs={}, model_dict=model, span_id=self._span_id
            )
        )

    def tell(self, piece: str) -> None:
        """Tell of a piece of text."""
        self._text += piece
        if not self._streaming:
            return
        dispatcher.event(
            LLMCompletionInProgressEvent(
                prompt=self._question, response=self._completion(piece), span_id=self._span_id
            )
        )

    def __enter__(self) -> "Generating":
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, (GeneratorExit, asyncio.CancelledError)):
            self._end()
        else:
            self._fail(error)

    def _end(self) -> None:
        completion = self._completion()
        self._callbacks.on_event_end(
            CBEventType.LLM,
            payload={EventPayload.PROMPT: self._question, EventPayload.COMPLETION: completion},
            event_id=self._id,
        )
        dispatcher.event(
            LLMCompletionEndEvent(prompt=self._question, response=completion, span_id=self._span_id)
        )

    def _fail(self, error: BaseException) -> None:
        self._callbacks.on_event_end(
            CBEventType.LLM, payload={EventPayload.EXCEPTION: error}, event_id=self._id
        )
        dispatcher.event(ExceptionEvent(exception=error, span_id=self._span_id))

    def _completion(self, piece: str | None = None) -> CompletionResponse:
        raw = {"usage": self._asking.model_tokens()}
        return CompletionResponse(text=self._text, delta=piece, raw=raw)
