# ---
# jupyter:
#   jupytext:
#     formats: py:percent,ipynb
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # An agent that asks documents
#
# An agent's own model plans; questions about documents go to `ACRETool`, whose local model answers
# from refilled caches. The two need not be the same model, and mostly are not: planning wants a
# large one that calls tools.

# %%
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.checkpoint.memory import InMemorySaver

from acre_langchain import ACREAnswerChain, ACRETool
from acre_rag import ACREEngine, Document

path = Path("documents/freeze-dryer-manual.md")
engine = ACREEngine()  # the demo model, and a store in your home directory
engine.ingest([Document(id=path.name, text=path.read_text(encoding="utf-8"))])

# %% [markdown]
# ## The tool
#
# Give it a chain for settings, and a description that says what the documents are about: the
# agent's model decides by it.

# %%
chain = ACREAnswerChain(engine=engine, documents=[path.name], max_new_tokens=24)
tool = ACRETool(
    chain=chain,
    name="ask_manual",
    description="Answers one complete question from the manual of the freeze dryer.",
    handle_tool_error=True,
)
print(tool.invoke({"question": "How much does the machine weigh without its pump?"}))

# %% [markdown]
# ## The agent
#
# So that this notebook needs no account, its planner is a rule: it sends questions to the tool, and
# repeats what it is told. Put a model that calls tools in its place, for example
# `create_agent("openai:...", tools=[tool])`; nothing else changes.


# %%
class Planner(BaseChatModel):
    """Stands in for a model that calls tools."""

    @property
    def _llm_type(self) -> str:
        return "planner"

    def bind_tools(self, tools: Sequence[Any], **_unused: object) -> "Planner":
        """Take the tools that it may call; it knows the one."""
        assert len(tools) == 1
        return self

    def _generate(
        self, messages: list[BaseMessage], *_unused: object, **_settings: object
    ) -> ChatResult:
        last = messages[-1]
        if isinstance(last, ToolMessage):
            said = AIMessage(f"The manual says: {last.text.splitlines()[0]}")
        elif re.search(r"\?\s*$", last.text):
            call = {"name": "ask_manual", "args": {"question": last.text}, "id": f"call-{last.id}"}
            said = AIMessage("", tool_calls=[call])
        else:
            said = AIMessage("Ask me about the freeze dryer.")
        return ChatResult(generations=[ChatGeneration(message=said)])


agent = create_agent(Planner(), tools=[tool], checkpointer=InMemorySaver())
thread = {"configurable": {"thread_id": "1"}}


def ask(question: str) -> list[BaseMessage]:
    """Say something to the agent, in one conversation."""
    return agent.invoke({"messages": [("human", question)]}, thread)["messages"]


for message in ask("How much does the machine weigh without its pump?"):
    message.pretty_print()

# %% [markdown]
# ## What the tool looked at
#
# The message that the agent's model sees is short: the answer, and its places. What the program may
# want lies beside it, in the artifact: documents, costs, and in the notebook the **refill map**.

# %%
tool.invoke(
    {
        "name": "ask_manual",
        "args": {"question": "How much oil does the vacuum pump take?"},
        "id": "1",
        "type": "tool_call",
    }
).artifact

# %% [markdown]
# A checkpointer keeps the artifact as plain values, so that places can be shown later too.

# %%
kept = [m for m in agent.get_state(thread).values["messages"] if isinstance(m, ToolMessage)]
kept[0].artifact["answer"], kept[0].artifact["usage"]["encoded_tokens"]

# %% [markdown]
# ## The conversation goes on
#
# The document is not read again, whatever is asked.

# %%
ask("Which solvent dissolves the seal of the drum?")[-1].text

# %%
ask("Thank you.")[-1].text

# %% [markdown]
# ## Tokens, while they come
#
# The tool's answer streams out of the agent's run as the tokens of a chat model named `ACREAnswer`.

# %%
events = agent.astream_events(
    {"messages": [("human", "How thick may a layer of sample be when it is frozen?")]},
    thread,
    version="v2",
)
async for event in events:
    if event["event"] == "on_chat_model_stream" and event["name"] == "ACREAnswer":
        print(event["data"]["chunk"].text, end="|")

# %% [markdown]
# A graph with routes, checks and a fallback of its own: [langgraph_answer](langgraph_answer.py).
