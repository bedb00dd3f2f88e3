"""What the framework's instruments see of a question: events, spans, token counts, failures."""

import asyncio
import inspect
from collections.abc import Iterator

import pytest
import torch
from llama_index.core.callbacks import (
    CallbackManager,
    CBEventType,
    EventPayload,
    LlamaDebugHandler,
    TokenCountingHandler,
)
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.instrumentation.span import SimpleSpan
from llama_index.core.instrumentation.span_handlers import BaseSpanHandler
from llama_index.core.llms import ChatMessage
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeRelationship, NodeWithScore, RelatedNodeInfo, TextNode

from acre_llama_index import ACRELLM, ACREQueryEngine, ACRERetriever
from acre_rag import ACREEngine, ACREError
from tests.integrations.event_loops import LONG

QUESTION = "When does the ferry leave?"


class Recorder(BaseEventHandler):
    """Writes down what happens."""

    events: list[BaseEvent] = []  # noqa: RUF012  # a field of the framework's model

    @classmethod
    def class_name(cls) -> str:
        return "Recorder"

    def handle(self, event: BaseEvent, **_unused: object) -> None:
        self.events.append(event)

    def names(self) -> list[str]:
        return [event.class_name() for event in self.events]


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    handler = Recorder(events=[])
    root = get_dispatcher()
    root.add_event_handler(handler)
    yield handler
    root.event_handlers.remove(handler)


ORDER = [
    "QueryStartEvent",
    "RetrievalStartEvent",
    "RetrievalEndEvent",
    "SynthesizeStartEvent",
    "ACRESelectEvent",
    "ACREFetchEvent",
    "ACRERefillEvent",
    "LLMCompletionStartEvent",
    "LLMCompletionEndEvent",
    "SynthesizeEndEvent",
    "QueryEndEvent",
]


def test_events_come_in_the_frameworks_order(engine: ACREEngine, recorder: Recorder) -> None:
    query_engine = ACREQueryEngine(engine, max_new_tokens=2)

    response = query_engine.query(QUESTION)
    sync = recorder.names()
    refill = next(e for e in recorder.events if e.class_name() == "ACRERefillEvent")
    recorder.events.clear()
    asyncio.run(query_engine.aquery(QUESTION))

    assert sync == ORDER
    assert recorder.names() == ORDER
    assert refill.refilled_tokens == response.metadata["usage"]["refilled_tokens"]
    assert refill.hit


def test_what_was_refilled_is_told_before_the_first_word(
    engine: ACREEngine, recorder: Recorder
) -> None:
    response = ACREQueryEngine(engine, streaming=True, max_new_tokens=2).query(QUESTION)

    told = {event.class_name(): event for event in recorder.events}
    assert "LLMCompletionEndEvent" not in told
    assert told["ACRESelectEvent"].seconds > 0
    assert told["ACREFetchEvent"].bytes_read == response.metadata["usage"]["bytes_read"]
    assert told["ACRERefillEvent"].hit
    str(response)


class DryerRetriever(BaseRetriever):
    """Finds a part of one document, as a vector retriever might."""

    def _retrieve(self, _question: object) -> list[NodeWithScore]:
        dryer = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="dryer")}
        return [NodeWithScore(node=TextNode(text="The oil", relationships=dryer), score=0.5)]


def test_events_of_a_retriever_in_front_are_its_own(engine: ACREEngine, recorder: Recorder) -> None:
    ACREQueryEngine(engine, DryerRetriever(), max_new_tokens=2).query(QUESTION)

    assert recorder.names() == ORDER


def test_a_stream_tells_of_every_piece_and_of_its_end(
    engine: ACREEngine, recorder: Recorder
) -> None:
    response = ACREQueryEngine(engine, streaming=True, max_new_tokens=5).query(QUESTION)
    pieces = list(response.response_gen)

    told = [e for e in recorder.events if e.class_name() == "LLMCompletionInProgressEvent"]
    assert [event.response.delta for event in told] == pieces
    (end,) = (e for e in recorder.events if e.class_name() == "LLMCompletionEndEvent")
    assert recorder.names()[-1] == "LLMCompletionEndEvent"
    assert end.response.text == "".join(pieces)


@pytest.fixture
def broken(engine: ACREEngine, monkeypatch: pytest.MonkeyPatch) -> ACREEngine:
    """An engine whose model fails while it answers, after a word or two."""
    model, forward = engine.reader.local.model, engine.reader.local.model.forward
    steps = []

    def fail_soon(*args: object, **kwargs: object) -> object:
        steps.append(1)
        if len(steps) > 3:
            raise RuntimeError("out of memory")
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "forward", fail_soon)
    return engine


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("later", [False, True])
def test_a_model_that_fails_is_told_as_a_failure(
    broken: ACREEngine, recorder: Recorder, streaming: bool, later: bool
) -> None:
    debug = LlamaDebugHandler(print_trace_on_end=False)
    query_engine = ACREQueryEngine(
        broken, streaming=streaming, max_new_tokens=9, callback_manager=CallbackManager([debug])
    )

    async def drain() -> None:
        response = await query_engine.aquery(QUESTION)
        if streaming:
            async for _ in response.async_response_gen():
                pass

    def ask() -> None:
        asyncio.run(drain()) if later else str(query_engine.query(QUESTION))

    with pytest.raises(RuntimeError, match="out of memory"):
        ask()

    (failure,) = (e for e in recorder.events if e.class_name() == "ExceptionEvent")
    assert "out of memory" in str(failure.exception)
    assert "LLMCompletionEndEvent" not in recorder.names()
    assert ("QueryEndEvent" in recorder.names()) == streaming
    ((_, end),) = debug.get_event_pairs(CBEventType.LLM)
    assert "out of memory" in str(end.payload[EventPayload.EXCEPTION])


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.usefixtures("tokens")
def test_an_answer_that_is_stopped_ends_with_what_was_said(
    engine: ACREEngine, recorder: Recorder, later: bool
) -> None:
    query_engine = ACREQueryEngine(engine, streaming=True, max_new_tokens=LONG)

    async def read_one() -> tuple[object, str]:
        response = await query_engine.aquery("Go on")
        piece = await anext(response.response_gen)
        await response.response_gen.aclose()
        return response, piece

    if later:
        response, piece = asyncio.run(read_one())
    else:
        response = query_engine.query("Go on")
        piece = next(response.response_gen)
        response.response_gen.close()

    (end,) = (e for e in recorder.events if e.class_name() == "LLMCompletionEndEvent")
    assert end.response.text == piece
    assert "ExceptionEvent" not in recorder.names()
    assert response.metadata["seconds"]["total"] >= response.metadata["seconds"]["first_token"] > 0


def test_a_question_that_is_refused_tells_of_no_answer(
    engine: ACREEngine, recorder: Recorder
) -> None:
    with pytest.raises(ACREError):
        ACREQueryEngine(engine, documents=["nowhere"]).query(QUESTION)

    assert recorder.names()[:2] == ["QueryStartEvent", "RetrievalStartEvent"]
    assert {n for n in recorder.names() if n.endswith("EndEvent")} == set()


@pytest.mark.parametrize("streaming", [False, True])
def test_tokens_are_counted_as_the_model_counts_them(engine: ACREEngine, streaming: bool) -> None:
    counter = TokenCountingHandler()
    query_engine = ACREQueryEngine(
        engine, streaming=streaming, max_new_tokens=5, callback_manager=CallbackManager([counter])
    )

    response = query_engine.query(QUESTION)
    str(response)
    usage = response.metadata["usage"]
    prompt = engine.stream(QUESTION).prompt_tokens

    assert counter.completion_llm_token_count == 5
    assert counter.prompt_llm_token_count == (
        prompt + usage["landmarks"] + usage["refilled_tokens"]
    )


def test_tokens_of_the_llm_are_counted_too(engine: ACREEngine) -> None:
    counter = TokenCountingHandler()
    llm = ACRELLM(engine, max_new_tokens=3, callback_manager=CallbackManager([counter]))

    llm.complete(QUESTION, formatted=True)
    llm.chat([ChatMessage(content=QUESTION)])
    list(llm.stream_chat([ChatMessage(content=QUESTION)]))
    asyncio.run(llm.acomplete(QUESTION))

    assert [count.completion_token_count for count in counter.llm_token_counts] == [3, 3, 3, 3]
    first, *_ = counter.llm_token_counts
    assert first.prompt_token_count == engine.complete(QUESTION).prompt_tokens


def test_the_older_callbacks_see_query_retrieval_synthesis_and_model(engine: ACREEngine) -> None:
    debug = LlamaDebugHandler(print_trace_on_end=False)
    callbacks = CallbackManager([debug])

    response = ACREQueryEngine(engine, max_new_tokens=2, callback_manager=callbacks).query(QUESTION)

    kinds = [CBEventType.QUERY, CBEventType.RETRIEVE, CBEventType.SYNTHESIZE, CBEventType.LLM]
    for kind in kinds:
        ((start, end),) = debug.get_event_pairs(kind)
        assert start.payload, kind
        assert end.payload, kind
    ((_, found),) = debug.get_event_pairs(CBEventType.RETRIEVE)
    assert found.payload[EventPayload.NODES] == response.source_nodes


class SpanRecorder(BaseSpanHandler[SimpleSpan]):
    """Keeps what spans are given."""

    def __init__(self) -> None:
        super().__init__()
        self._given: list[object] = []

    @classmethod
    def class_name(cls) -> str:
        return "SpanRecorder"

    @property
    def given(self) -> list[object]:
        return self._given

    def new_span(
        self, id_: str, bound_args: inspect.BoundArguments, *_: object, **__: object
    ) -> SimpleSpan:
        self.given.append(bound_args.arguments)
        return SimpleSpan(id_=id_)

    def prepare_to_exit_span(self, id_: str, *_: object, **given: object) -> SimpleSpan:
        self.given.append(given.get("result"))
        return self.open_spans[id_]

    def prepare_to_drop_span(self, id_: str, *_: object, **__: object) -> SimpleSpan:
        return self.open_spans[id_]


def test_no_tensor_is_in_spans_or_events(engine: ACREEngine, recorder: Recorder) -> None:
    spans = SpanRecorder()
    root = get_dispatcher()
    root.add_span_handler(spans)
    try:
        ACREQueryEngine(engine, max_new_tokens=2).query(QUESTION)
        asyncio.run(ACREQueryEngine(engine, DryerRetriever(), max_new_tokens=2).aquery(QUESTION))
        ACRERetriever(engine).retrieve(QUESTION)
        ACRELLM(engine, max_new_tokens=2).complete(QUESTION)
    finally:
        root.span_handlers.remove(spans)

    assert len(spans.given) > 8
    for given in spans.given:
        assert not tensors_in(given)
    for event in recorder.events:
        assert not tensors_in(event.model_dump())


def tensors_in(value: object) -> list[torch.Tensor]:
    """Find tensors among what a handler that writes down fields would see."""
    match value:
        case torch.Tensor():
            return [value]
        case dict():
            return [found for one in value.values() for found in tensors_in(one)]
        case list() | tuple():
            return [found for one in value for found in tensors_in(one)]
    if hasattr(value, "model_dump"):
        return tensors_in(value.model_dump())
    if hasattr(value, "__dataclass_fields__"):
        return [t for name in value.__dataclass_fields__ for t in tensors_in(getattr(value, name))]
    return []
