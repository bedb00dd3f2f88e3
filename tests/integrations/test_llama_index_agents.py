"""Agents and workflows of the framework, with our parts as their tools, steps and models."""

import asyncio

import pytest
from llama_index.core.agent.workflow import AgentOutput, FunctionAgent, ReActAgent, ToolCallResult
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.core.tools import QueryEngineTool
from llama_index.core.workflow import Context, Event, StartEvent, StopEvent, Workflow, step

from acre_llama_index import ACRELLM, ACREQueryEngine, ACRERetriever
from acre_rag import ACREEngine, ACREError
from tests.integrations.llama_index_parts import QUESTION, ScriptedLLM

# The framework's agents use deprecated parts of its own.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(params=[False, True])
def tool(request: pytest.FixtureRequest, engine: ACREEngine) -> QueryEngineTool:
    """A tool over an engine; streaming or not, an agent sees no difference."""
    query_engine = ACREQueryEngine(engine, streaming=request.param, max_new_tokens=4)
    return QueryEngineTool.from_defaults(query_engine, name="ferries", description="Ferries")


async def run(agent: FunctionAgent | ReActAgent) -> tuple[AgentOutput, list[ToolCallResult]]:
    handler = agent.run(QUESTION)
    events = [event async for event in handler.stream_events()]
    return await handler, [event for event in events if isinstance(event, ToolCallResult)]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_function_agent_calls_it(tool: QueryEngineTool, streaming: bool) -> None:
    llm = MockFunctionCallingLLM(is_chat_model=True)
    agent = FunctionAgent(tools=[tool], llm=llm, streaming=streaming)

    answer, calls = asyncio.run(run(agent))

    assert str(answer)
    assert calls
    for call in calls:
        assert call.tool_output.raw_output.source_nodes
        assert call.tool_output.content.strip()


def test_a_react_agent_asks_and_answers_with_what_it_heard(
    engine: ACREEngine, tool: QueryEngineTool
) -> None:
    heard = engine.ask(QUESTION, max_new_tokens=4).text
    llm = ScriptedLLM(
        lines=[
            f'Thought: I look it up.\nAction: ferries\nAction Input: {{"input": "{QUESTION}"}}',
            "Thought: I can answer without using any more tools.\nAnswer: At nine.",
        ]
    )

    answer, (call,) = asyncio.run(run(ReActAgent(tools=[tool], llm=llm)))

    assert str(answer) == "At nine."
    assert call.tool_output.content.strip() == heard
    assert heard in llm.prompts[1]


def test_a_react_agent_may_think_with_the_local_model(
    engine: ACREEngine, tool: QueryEngineTool
) -> None:
    agent = ReActAgent(tools=[tool], llm=ACRELLM(engine, max_new_tokens=4), streaming=True)

    answer, _ = asyncio.run(run(agent))

    assert str(answer)


def test_a_workflow_graph_falls_back_where_nothing_is_stored(empty_engine: ACREEngine) -> None:
    class Graph(Workflow):
        @step
        async def answer(self, event: StartEvent) -> StopEvent:
            try:
                return StopEvent(result=await ACREQueryEngine(empty_engine).aquery(event.question))
            except ACREError as error:
                return StopEvent(result=f"fallback: {error}")

    async def run() -> str:
        return str(await Graph().run(question=QUESTION))

    assert asyncio.run(run()).startswith("fallback: ")


class Piece(Event):
    """A piece of an answer."""

    text: str


def test_a_workflow_streams_an_answer_to_its_caller(engine: ACREEngine) -> None:
    class Graph(Workflow):
        @step
        async def answer(self, ctx: Context, event: StartEvent) -> StopEvent:
            retriever = ACRERetriever(engine, documents=["dryer"])
            query_engine = ACREQueryEngine(engine, retriever, streaming=True, max_new_tokens=6)
            response = await query_engine.aquery(event.question)
            async for piece in response.async_response_gen():
                ctx.write_event_to_stream(Piece(text=piece))
            return StopEvent(result=await response.get_response())

    async def collect() -> tuple[list[str], str]:
        handler = Graph().run(question=QUESTION)
        pieces = [e.text async for e in handler.stream_events() if isinstance(e, Piece)]
        return pieces, str(await handler)

    pieces, whole = asyncio.run(collect())
    assert len(pieces) > 3
    assert "".join(pieces).strip() == whole
    assert whole == engine.ask(QUESTION, ["dryer"], max_new_tokens=6).text
