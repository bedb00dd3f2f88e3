"""`ChatACRE` with and without documents in its memory."""

import asyncio
import threading
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    trim_messages,
)
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField

from acre_langchain import ChatACRE
from acre_rag import ACREEngine, ACREError, Document
from tests.integrations.conftest import FERRY
from tests.integrations.event_loops import LONG, answer_after_cancelling

QUESTION = "When does the ferry leave?"


@pytest.fixture
def chat(engine: ACREEngine) -> ChatACRE:
    return ChatACRE(engine=engine, max_tokens=8)


@pytest.fixture
def reader(chat: ChatACRE) -> ChatACRE:
    return chat.with_documents()


def test_without_documents_it_is_the_model_itself(engine: ACREEngine, chat: ChatACRE) -> None:
    local = engine.reader.local
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Go on"}]
    given = local.tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    made = local.model.generate(**given, max_new_tokens=8, do_sample=False)
    theirs = local.tokenizer.decode(made[0, given["input_ids"].shape[1] :])

    ours = chat.invoke([("system", "Be kind."), ("human", "Go on")])

    assert ours.text == theirs.strip()
    assert ours.usage_metadata == {
        "input_tokens": given["input_ids"].shape[1],
        "output_tokens": 8,
        "total_tokens": given["input_ids"].shape[1] + 8,
    }


def test_the_end_token_ends_it(
    engine: ACREEngine, chat: ChatACRE, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = engine.reader.local
    whole = chat.invoke("Go on").text
    tokens = local.tokenizer.encode(" " + whole, add_special_tokens=False)
    end = tokens.index(tokens[3])
    monkeypatch.setattr(local.model.generation_config, "eos_token_id", [tokens[3]])

    answer = chat.invoke("Go on")

    # A real end token is special, and no part of the text.
    assert answer.text == local.tokenizer.decode(tokens[: end + 1]).strip()
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] == end + 1


def test_with_documents_it_answers_as_the_engine_does(engine: ACREEngine, reader: ChatACRE) -> None:
    theirs = engine.ask(QUESTION, max_new_tokens=8)

    ours = reader.invoke(QUESTION)

    assert ours.text == theirs.text
    assert ours.response_metadata["usage"]["encoded_tokens"] == 0
    assert [one["start"] for one in ours.response_metadata["sources"]] == [
        source.start for source in theirs.sources
    ]
    cached = theirs.usage.landmarks + theirs.usage.refilled_tokens
    assert ours.usage_metadata is not None
    assert ours.usage_metadata["input_token_details"] == {"cache_read": cached}
    assert ours.usage_metadata["input_tokens"] > cached


def test_documents_may_be_named_and_filtered(engine: ACREEngine, chat: ChatACRE) -> None:
    named = chat.with_documents(["dryer"]).invoke(QUESTION)
    filtered = chat.with_documents(filter={"kind": "manual"}).invoke(QUESTION)

    assert named.text == filtered.text == engine.ask(QUESTION, ["dryer"], max_new_tokens=8).text
    assert {one["document"] for one in filtered.response_metadata["sources"]} == {"dryer"}


def test_history_comes_before_the_question_and_the_system_instructs(
    engine: ACREEngine, reader: ChatACRE
) -> None:
    ours = reader.invoke(
        [
            SystemMessage("Say it in Norse."),
            HumanMessage("Does it float?"),
            AIMessage("It does."),
            HumanMessage([{"type": "text", "text": QUESTION}]),
        ]
    )
    theirs = engine.ask(
        f"User: Does it float?\nAssistant: It does.\n{QUESTION}",
        max_new_tokens=8,
        instructions="Say it in Norse.",
    )

    assert ours.text == theirs.text
    assert ours.response_metadata["usage"]["encoded_tokens"] == 0


def test_a_system_message_alone_is_answered(chat: ChatACRE, reader: ChatACRE) -> None:
    for model in (chat, reader):
        assert model.invoke([SystemMessage("Greet the passengers.")]).text


@pytest.mark.parametrize("documents", [(), "all"])
def test_streams_give_the_same_text_in_pieces(engine: ACREEngine, documents: object) -> None:
    model = ChatACRE(engine=engine, max_tokens=8, documents=documents)
    whole = model.invoke(QUESTION)

    async def collect() -> list[str]:
        return [chunk.text async for chunk in model.astream(QUESTION)]

    pieces = [chunk.text for chunk in model.stream(QUESTION)]
    assert len(pieces) > 5
    assert "".join(pieces) == whole.text
    assert asyncio.run(collect()) == pieces
    assert asyncio.run(model.ainvoke(QUESTION)).usage_metadata == whole.usage_metadata


def test_stop_words_and_length_may_be_given_with_the_question(reader: ChatACRE) -> None:
    whole = reader.invoke(QUESTION).text
    word = whole.split()[3]

    assert reader.invoke(QUESTION, stop=[word]).text == whole[: whole.index(word)].strip()
    assert len(reader.invoke(QUESTION, max_tokens=2).text) < len(whole)
    assert reader.invoke(QUESTION, stop=word).text == whole[: whole.index(word)].strip()
    assert reader.bind(stop=[word]).invoke(QUESTION).text == whole[: whole.index(word)].strip()


def test_a_budget_may_be_given_with_the_question_or_bound(
    engine: ACREEngine, reader: ChatACRE
) -> None:
    theirs = engine.ask(QUESTION, refill_tokens=12, max_new_tokens=8)

    given = reader.invoke(QUESTION, refill_tokens=12)
    bound = asyncio.run(reader.bind(refill_tokens=12).ainvoke(QUESTION))

    for ours in (given, bound):
        assert ours.text == theirs.text
        assert ours.response_metadata["usage"]["refilled_tokens"] == theirs.usage.refilled_tokens


def test_tokens_are_counted_by_the_models_own_tokenizer_without_a_network(
    engine: ACREEngine, chat: ChatACRE, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = engine.reader.local.tokenizer
    monkeypatch.setattr("socket.socket", pytest.fail)
    said: list[BaseMessage] = [SystemMessage("Be kind."), HumanMessage("Go on"), AIMessage("No.")]
    asked = [*said, HumanMessage("Please!")]

    assert chat.get_token_ids(QUESTION) == tokenizer.encode(QUESTION, add_special_tokens=False)
    assert chat.get_num_tokens(QUESTION) == len(chat.get_token_ids(QUESTION))
    assert chat.get_num_tokens("") == chat.get_num_tokens_from_messages([]) == 0
    answer = chat.invoke(asked)
    assert answer.usage_metadata is not None
    counted = chat.get_num_tokens_from_messages(asked)
    assert counted == answer.usage_metadata["input_tokens"]
    kept = trim_messages(asked, max_tokens=counted - 1, token_counter=chat, include_system=True)
    assert kept == [asked[0], *asked[2:]]
    own = ChatACRE(engine=engine, custom_get_token_ids=lambda text: [len(text)])
    assert own.get_token_ids("nine") == [4]
    with pytest.raises(ACREError, match="a message is a ToolMessage"):
        chat.get_num_tokens_from_messages([ToolMessage("nine", tool_call_id="1")])
    with pytest.raises(ACREError, match="found 1 tools to count"):
        chat.get_num_tokens_from_messages(asked, tools=[{"name": "f"}])


def test_an_agent_without_tools_may_have_it_as_its_model(reader: ChatACRE) -> None:
    agent = create_agent(reader, system_prompt="Say it in Norse.")
    asked = {"messages": [HumanMessage(QUESTION)]}
    told: list[BaseMessage] = [SystemMessage("Say it in Norse."), HumanMessage(QUESTION)]

    said = agent.invoke(asked)["messages"][-1]
    tokens = [part.text for part, _ in agent.stream(asked, stream_mode="messages")]

    assert said.text == reader.invoke(told).text == "".join(tokens)
    assert len(tokens) > 5


def test_a_config_that_cannot_be_written_down_does_no_harm(reader: ChatACRE) -> None:
    config: Any = {"metadata": {"lock": threading.Lock()}, "configurable": {"call": print}}

    assert reader.invoke(QUESTION, config).text == reader.invoke(QUESTION).text


def test_it_works_behind_a_prompt_and_before_a_parser(reader: ChatACRE) -> None:
    prompt = ChatPromptTemplate.from_messages([("system", "Be {how}."), ("human", "{question}")])
    chain = prompt | reader | StrOutputParser()

    pieces = list(chain.stream({"how": "brief", "question": QUESTION}))

    assert len(pieces) > 5


def test_callbacks_count_its_tokens(reader: ChatACRE) -> None:
    counted = UsageMetadataCallbackHandler()

    answer = reader.invoke(QUESTION, {"callbacks": [counted]})

    assert counted.usage_metadata == {"talker": answer.usage_metadata}


def test_cached_answers_are_those_of_the_same_documents(engine: ACREEngine) -> None:
    answers = InMemoryCache()

    def text(**settings: object) -> str:
        return ChatACRE(engine=engine, cache=answers, **settings).invoke(QUESTION).text

    before = text(documents=["ferry"], max_tokens=8)
    assert text(documents=["ferry"], max_tokens=8) == before
    assert len(answers._cache) == 1
    text(documents=["dryer"], max_tokens=8)
    text(documents=["ferry"], max_tokens=2)
    text(documents=["ferry"], max_tokens=8, refill_tokens=12)
    text(max_tokens=8)
    assert len(answers._cache) == 5
    engine.ingest([Document(id="ferry", text=FERRY.text[: len(FERRY.text) // 2])])
    text(documents=["ferry"], max_tokens=8)
    assert len(answers._cache) == 6
    model = ChatACRE(engine=engine, cache=answers, documents=["ferry"], max_tokens=8)
    asyncio.run(model.ainvoke(QUESTION))
    assert len(answers._cache) == 6
    model.invoke(QUESTION, refill_tokens=12)
    assert len(answers._cache) == 7


def test_questions_of_one_conversation_read_nothing_again(
    engine: ACREEngine, reader: ChatACRE
) -> None:
    history: list[BaseMessage] = []
    cached = engine.ask(QUESTION, max_new_tokens=8).usage

    for question in (QUESTION, "And back?", "What does it cost?"):
        history.append(HumanMessage(question))
        said = reader.invoke(history)
        history.append(said)
        assert said.response_metadata["usage"]["encoded_tokens"] == 0
        assert said.response_metadata["usage"]["landmarks"] == cached.landmarks


def test_a_fallback_and_a_retry_wrap_it(chat: ChatACRE, reader: ChatACRE) -> None:
    gone = chat.with_documents(["gone"])

    assert gone.with_fallbacks([reader]).invoke(QUESTION).text == reader.invoke(QUESTION).text
    assert reader.with_retry().invoke(QUESTION).text == reader.invoke(QUESTION).text
    length = chat.configurable_fields(max_tokens=ConfigurableField(id="length"))
    short = length.invoke("Go on", {"configurable": {"length": 2}})
    assert short.usage_metadata is not None
    assert short.usage_metadata["output_tokens"] == 2


def test_events_tell_its_tokens(reader: ChatACRE) -> None:
    async def collect() -> list[str]:
        events = reader.astream_events(QUESTION, version="v2")
        return [
            event["data"]["chunk"].text
            async for event in events
            if event["event"] == "on_chat_model_stream"
        ]

    assert "".join(asyncio.run(collect())) == reader.invoke(QUESTION).text


def test_it_calls_no_tools(chat: ChatACRE) -> None:
    with pytest.raises(NotImplementedError):
        chat.bind_tools([])
    with pytest.raises(NotImplementedError):
        chat.with_structured_output({"title": "Answer", "type": "object", "properties": {}})


@pytest.mark.parametrize("documents", [(), "all"])
def test_cancelling_frees_the_model(
    engine: ACREEngine, documents: object, tokens: list[float]
) -> None:
    endless = ChatACRE(engine=engine, max_tokens=LONG, documents=documents)
    brief = ChatACRE(engine=engine, max_tokens=2)

    answer = answer_after_cancelling(
        lambda: endless.ainvoke("Go on"), lambda: brief.ainvoke(QUESTION), tokens
    )

    assert answer.text == brief.invoke(QUESTION).text
