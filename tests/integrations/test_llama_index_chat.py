"""Every chat mode of the framework over an `ACREIndex`."""

import asyncio

import pytest
from llama_index.core import Settings
from llama_index.core.chat_engine import (
    CondensePlusContextChatEngine,
    CondenseQuestionChatEngine,
    ContextChatEngine,
    SimpleChatEngine,
)
from llama_index.core.chat_engine.types import BaseChatEngine, ChatMode
from llama_index.core.postprocessor import SimilarityPostprocessor

from acre_llama_index import ACREIndex
from acre_rag import ACREEngine, ACREError
from tests.integrations.event_loops import LONG, answer_after_cancelling
from tests.integrations.llama_index_parts import QUESTION, ScriptedLLM, llama_documents, memory

MODES = {
    ChatMode.CONDENSE_QUESTION: CondenseQuestionChatEngine,
    ChatMode.BEST: CondenseQuestionChatEngine,
    ChatMode.SIMPLE: SimpleChatEngine,
    ChatMode.CONTEXT: ContextChatEngine,
    ChatMode.CONDENSE_PLUS_CONTEXT: CondensePlusContextChatEngine,
}


@pytest.fixture
def index(empty_engine: ACREEngine) -> ACREIndex:
    return ACREIndex.from_documents(llama_documents(), engine=empty_engine)


async def astream(chat: BaseChatEngine, message: str) -> list[str]:
    response = await chat.astream_chat(message)
    return [piece async for piece in response.async_response_gen()]


def test_a_chat_goes_through_the_cache(index: ACREIndex) -> None:
    chat = index.as_chat_engine(memory=memory(), max_new_tokens=6)

    first = chat.chat(QUESTION)

    assert str(first) == str(index.as_query_engine(max_new_tokens=6).query(QUESTION))
    assert first.source_nodes
    assert str(chat.chat("And on Sundays?"))
    assert len(chat.chat_history) == 4


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_chats_and_streams_sync_and_async(index: ACREIndex, mode: ChatMode) -> None:
    search = {} if mode == ChatMode.SIMPLE else {"refill_tokens": 64, "similarity_top_k": 2}
    chat = index.as_chat_engine(mode, memory=memory(), max_new_tokens=6, **search)

    assert isinstance(chat, MODES[mode])
    assert str(chat.chat(QUESTION))
    assert len(list(chat.stream_chat("And on Sundays?").response_gen)) > 1
    assert str(asyncio.run(chat.achat("And in May?")))
    assert len(asyncio.run(astream(chat, "And in June?"))) > 1
    assert len(chat.chat_history) == 8
    chat.reset()
    assert chat.chat_history == []


@pytest.mark.parametrize("mode", ["react", "openai", "telepathy"])
def test_a_mode_that_is_not_there_is_one_clear_error(index: ACREIndex, mode: str) -> None:
    with pytest.raises(ACREError, match=f"chat_mode is '{mode}'.*condense_question"):
        index.as_chat_engine(mode)


@pytest.mark.parametrize(
    ("mode", "option"),
    [
        *[("simple", name) for name in ("similarity_top_k", "filters", "doc_ids", "refill_tokens")],
        *[(mode, "instructions") for mode in ("simple", "context", "condense_plus_context")],
        ("simple", "node_postprocessors"),
        ("condense_question", "system_prompt"),
        *[(mode, "simlarity_top_k") for mode in MODES],
    ],
)
def test_an_option_that_a_mode_does_not_have_is_one_clear_error(
    index: ACREIndex, mode: str, option: str
) -> None:
    with pytest.raises(ACREError, match=f"chat mode .* is given {option}; expected"):
        index.as_chat_engine(mode, **{option: None})


def test_the_length_of_an_answer_is_the_given_llms_own_where_that_answers(
    index: ACREIndex,
) -> None:
    llm = ScriptedLLM(lines=["In May."])

    with pytest.raises(ACREError, match="'context' is given max_new_tokens"):
        index.as_chat_engine("context", llm=llm, max_new_tokens=6)
    assert index.as_chat_engine("best", llm=llm, memory=memory(), max_new_tokens=6)


def test_streaming_may_be_asked_of_every_mode(index: ACREIndex) -> None:
    for mode in MODES:
        chat = index.as_chat_engine(mode, memory=memory(), streaming=True, max_new_tokens=3)
        assert len(list(chat.stream_chat(QUESTION).response_gen)) > 1


def test_a_conversation_is_condensed_into_the_question_that_is_asked(index: ACREIndex) -> None:
    condensed = "When is the oil changed?"
    llm = ScriptedLLM(lines=[condensed, condensed])
    chat = index.as_chat_engine(llm=llm, memory=memory(), max_new_tokens=6)
    whole = str(index.as_query_engine(max_new_tokens=6).query(condensed))

    chat.chat("Which oil?")
    streamed = chat.stream_chat("And when?")
    pieces = list(streamed.response_gen)

    assert "And when?" in llm.prompts[0]
    assert "Which oil?" in llm.prompts[0]
    assert len(pieces) > 1
    assert "".join(pieces).strip() == whole
    assert streamed.source_nodes
    assert "".join(asyncio.run(astream(chat, "And when?"))).strip() == whole


def test_modes_that_put_text_into_a_prompt_find_it_with_our_retriever(index: ACREIndex) -> None:
    llm = ScriptedLLM(lines=["In May."])
    chat = index.as_chat_engine(
        "context",
        llm=llm,
        memory=memory(),
        doc_ids=["dryer"],
        refill_tokens=1000,
    )

    response = chat.chat("When is the oil changed?")

    assert str(response) == "In May."
    assert "The oil is changed in May" in llm.prompts[0]
    assert {found.node.ref_doc_id for found in response.source_nodes} == {"dryer"}


def test_postprocessors_reach_modes_that_put_text_into_a_prompt(index: ACREIndex) -> None:
    nothing = SimilarityPostprocessor(similarity_cutoff=2.0)
    chat = index.as_chat_engine(
        "context", memory=memory(), max_new_tokens=2, node_postprocessors=[nothing]
    )

    assert chat.chat(QUESTION).source_nodes == []


def test_a_chat_that_is_left_frees_the_model(index: ACREIndex, tokens: list[float]) -> None:
    chat = index.as_chat_engine(memory=memory(), max_new_tokens=LONG)
    brief = index.as_query_engine(max_new_tokens=2)

    answer = answer_after_cancelling(
        lambda: chat.achat("Go on"), lambda: brief.aquery(QUESTION), tokens
    )

    assert str(answer) == str(brief.query(QUESTION))


def test_no_chat_asks_for_another_llm(index: ACREIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("llm", "embed_model"):
        refused = property(lambda _, name=name: pytest.fail(f"Settings.{name} was asked for"))
        monkeypatch.setattr(type(Settings), name, refused)

    for mode in MODES:
        assert str(index.as_chat_engine(mode, memory=memory(), max_new_tokens=2).chat(QUESTION))
