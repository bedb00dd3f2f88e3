"""`ACRETool` in the hands of an agent whose own model is another."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import ToolException
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from acre_langchain import ACREAnswerChain, ACRETool
from acre_rag import ACREEngine, ACREError

QUESTION = "When does the ferry leave?"
CALL = {"name": "ask_documents", "args": {"question": QUESTION}, "id": "1", "type": "tool_call"}


class Agent(GenericFakeChatModel):
    """Calls what it was told to call, and then says what it was told to say."""

    def bind_tools(self, tools: Sequence[Any], **_unused: object) -> Runnable[Any, AIMessage]:
        assert [tool.name for tool in tools] == ["ask_documents"]
        return self


@pytest.fixture
def tool(engine: ACREEngine) -> ACRETool:
    return ACRETool(chain=ACREAnswerChain(engine=engine, max_new_tokens=6))


def test_the_content_is_the_answer_and_its_places(engine: ACREEngine, tool: ACRETool) -> None:
    theirs = engine.ask(QUESTION, max_new_tokens=6)
    best = max(theirs.sources, key=lambda source: source.score)

    message = tool.invoke(CALL)

    assert isinstance(message, ToolMessage)
    answer, *places = message.content.split("\n")
    assert answer == theirs.text
    assert places[0] == f"[{best.document}, characters {best.start} to {best.end}]"
    assert len(places) <= 3


def test_the_artifact_holds_documents_and_costs(tool: ACRETool) -> None:
    artifact = asyncio.run(tool.ainvoke(CALL)).artifact

    assert artifact == {**tool.chain.invoke(QUESTION), "usage": artifact["usage"]}
    assert artifact["usage"]["encoded_tokens"] == 0


def test_an_agent_of_another_model_asks_our_documents(tool: ACRETool) -> None:
    says = iter([AIMessage("", tool_calls=[CALL]), AIMessage("It leaves at nine.")])
    agent = create_agent(Agent(messages=says), tools=[tool])

    messages = agent.invoke({"messages": [HumanMessage(QUESTION)]})["messages"]

    assert [message.type for message in messages] == ["human", "ai", "tool", "ai"]
    assert messages[2].artifact["answer"] == tool.chain.invoke(QUESTION)["answer"]


def test_tokens_stream_out_of_the_tool_of_an_agent(tool: ACRETool) -> None:
    async def collect() -> list[str]:
        says = iter([AIMessage("", tool_calls=[CALL]), AIMessage("It leaves at nine.")])
        agent = create_agent(Agent(messages=says, disable_streaming=True), tools=[tool])
        events = agent.astream_events({"messages": [HumanMessage(QUESTION)]}, version="v2")
        return [
            event["data"]["chunk"].text
            async for event in events
            if event["event"] == "on_chat_model_stream" and event["name"] == "ACREAnswer"
        ]

    assert "".join(asyncio.run(collect())) == tool.chain.invoke(QUESTION)["answer"]


def test_an_agents_stream_of_messages_has_the_tools_tokens(tool: ACRETool) -> None:
    says = iter([AIMessage("", tool_calls=[CALL]), AIMessage("It leaves at nine.")])
    agent = create_agent(Agent(messages=says, disable_streaming=True), tools=[tool])

    parts = agent.stream({"messages": [HumanMessage(QUESTION)]}, stream_mode="messages")

    said = "".join(part.text for part, _ in parts if part.type == "AIMessageChunk")
    assert tool.chain.invoke(QUESTION)["answer"] in said


def test_a_tool_node_runs_it(tool: ACRETool) -> None:
    graph = StateGraph(MessagesState).add_node("tools", ToolNode([tool])).add_edge(START, "tools")

    out = graph.compile().invoke({"messages": [AIMessage("", tool_calls=[CALL])]})

    assert out["messages"][-1].artifact["context"]


def test_an_agent_may_be_told_what_was_wrong(engine: ACREEngine) -> None:
    chain = ACREAnswerChain(engine=engine, documents=["gone"])

    with pytest.raises(ToolException, match="'gone' is not stored"):
        ACRETool(chain=chain).invoke({"question": QUESTION})
    message = ACRETool(chain=chain, handle_tool_error=True).invoke(CALL)
    assert message.status == "error"
    assert "'gone' is not stored" in message.content


def test_its_arguments_are_described_to_the_agent(engine: ACREEngine) -> None:
    tool = ACRETool(engine=engine, name="ask_manual", description="Knows the dryer.")

    assert tool.name == "ask_manual"
    assert tool.description == "Knows the dryer."
    assert list(tool.args) == ["question"]
    assert tool.args["question"]["description"]


def test_engine_or_chain_must_be_given(engine: ACREEngine) -> None:
    with pytest.raises(ACREError, match="expected one of the two"):
        ACRETool()
    with pytest.raises(ACREError, match="expected one of the two"):
        ACRETool(engine=engine, chain=ACREAnswerChain(engine=engine))
