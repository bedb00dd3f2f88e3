"""What `ChatACRE` cannot read, or be told, is refused in our words."""

import asyncio

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    ToolMessage,
)

from acre_langchain import ChatACRE
from acre_rag import ACREEngine, ACREError

QUESTION = "When does the ferry leave?"


@pytest.mark.parametrize(
    "settings",
    [{"documents": ["dryer"]}, {"max_new_tokens": 2}, {"filter": None}, {"api_key": "1"}],
)
@pytest.mark.parametrize("documents", [(), "all"])
def test_other_settings_of_one_call_are_refused(
    engine: ACREEngine, documents: object, settings: dict[str, object]
) -> None:
    model = ChatACRE(engine=engine, documents=documents, cache=InMemoryCache())
    words = f"found {next(iter(settings))} given with a call or bound; expected none here: a call"

    with pytest.raises(ACREError, match=words):
        model.invoke(QUESTION, **settings)  # type: ignore[arg-type]
    with pytest.raises(ACREError, match=words):
        list(model.bind(**settings).stream(QUESTION))
    with pytest.raises(ACREError, match=words):
        asyncio.run(model.bind(**settings).ainvoke(QUESTION))


REFUSED: list[tuple[list[BaseMessage], str]] = [
    ([], "the list of messages is empty"),
    ([ToolMessage("nine", tool_call_id="1")], "a message is a ToolMessage; expected"),
    ([ChatMessage("hi", role="critic")], "a message is a ChatMessage; expected"),
    (
        [AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "1"}])],
        "an? .*AIMessage that calls tools; expected",
    ),
    (
        [HumanMessage([{"type": "image", "url": "https://example.com/ferry.png"}])],
        "a block of type 'image'; expected text alone",
    ),
]


@pytest.mark.parametrize(("messages", "words"), REFUSED)
@pytest.mark.parametrize("documents", [(), "all"])
def test_what_it_cannot_read_is_refused_in_our_words(
    engine: ACREEngine, documents: object, messages: list[BaseMessage], words: str
) -> None:
    model = ChatACRE(engine=engine, documents=documents)

    with pytest.raises(ACREError, match=words):
        model.invoke(messages)
    with pytest.raises(ACREError, match=words):
        asyncio.run(model.ainvoke(messages))


def test_a_conversation_that_ends_with_the_model_asks_nothing(engine: ACREEngine) -> None:
    reader = ChatACRE(engine=engine, documents="all")

    with pytest.raises(ACREError, match="end with a HumanMessage"):
        reader.invoke([HumanMessage("Hi"), AIMessage("Hello")])


def test_bad_settings_are_refused(engine: ACREEngine) -> None:
    for bad in (
        {"temperature": 0.7},
        {"max_tokens": 0},
        {"documents": "ferry"},
        {"document": ["ferry"]},
        {"refill_tokens": "12"},
    ):
        with pytest.raises(ValueError, match="validation error"):
            ChatACRE(engine=engine, **bad)
    with pytest.raises(ValueError, match="validation error"):
        ChatACRE(engine=engine).with_documents("ferry")  # type: ignore[arg-type]
    with pytest.raises(ACREError, match="lower max_new_tokens"):
        ChatACRE(engine=engine, max_tokens=5000).invoke("hi")
    with pytest.raises(ACREError, match=r"temperature is 0.7; expected 0"):
        ChatACRE(engine=engine).invoke("hi", temperature=0.7)
    with pytest.raises(ACREError, match="max_new_tokens is 0; expected 1 or more"):
        ChatACRE(engine=engine).invoke("hi", max_tokens=0)
