"""Chats over an index: which of the framework's chat engines, and what each is given."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llama_index.core.chat_engine import (
    CondensePlusContextChatEngine,
    CondenseQuestionChatEngine,
    ContextChatEngine,
    SimpleChatEngine,
)
from llama_index.core.chat_engine.types import BaseChatEngine, ChatMode
from llama_index.core.llms import LLM

from acre_llama_index.llm import ACRELLM
from acre_rag import ACREEngine, ACREError

if TYPE_CHECKING:
    from acre_llama_index.index import ACREIndex

_RETRIEVER_ARGUMENTS = frozenset({"similarity_top_k", "filters", "doc_ids", "refill_tokens"})
_QUERY_ARGUMENTS = _RETRIEVER_ARGUMENTS | {
    "streaming",
    "max_new_tokens",
    "instructions",
    "node_postprocessors",
}


def condensing_chat(
    index: "ACREIndex", llm: LLM | None, arguments: Mapping[str, Any]
) -> BaseChatEngine:
    """Condense a conversation into one question, which is asked as any other."""
    query, chat = _split(arguments, _QUERY_ARGUMENTS)
    engine: BaseChatEngine = CondenseQuestionChatEngine.from_defaults(
        query_engine=index.as_query_engine(**query), llm=llm or ACRELLM(index.engine), **chat
    )
    return engine


def text_chat(
    index: "ACREIndex", mode: ChatMode, llm: LLM | None, arguments: Mapping[str, Any]
) -> BaseChatEngine:
    """Put text into the prompt of an LLM; no cache is used.

    Raises:
        ACREError: There is no such mode.
    """
    search, chat = _split(arguments, _RETRIEVER_ARGUMENTS)
    model = llm or _speaker(index.engine, chat.pop("max_new_tokens", None))
    chat.pop("streaming", None)  # a chat engine has methods for it
    engine: BaseChatEngine
    if mode == ChatMode.SIMPLE:
        engine = SimpleChatEngine.from_defaults(llm=model, **chat)
    elif mode == ChatMode.CONTEXT:
        retriever = index.as_retriever(**search)
        engine = ContextChatEngine.from_defaults(retriever=retriever, llm=model, **chat)
    elif mode == ChatMode.CONDENSE_PLUS_CONTEXT:
        retriever = index.as_retriever(**search)
        engine = CondensePlusContextChatEngine.from_defaults(retriever, llm=model, **chat)
    else:
        raise ACREError(
            f"chat_mode is {str(getattr(mode, 'value', mode))!r}; expected condense_question, "
            "best, simple, context or condense_plus_context: choose one, or give an agent "
            "QueryEngineTool.from_defaults(index.as_query_engine())"
        )
    return engine


def _speaker(engine: ACREEngine, max_new_tokens: int | None) -> ACRELLM:
    return ACRELLM(engine) if max_new_tokens is None else ACRELLM(engine, max_new_tokens)


def _split(
    arguments: Mapping[str, Any], names: frozenset[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give apart the arguments of some names, and the rest."""
    ours = {name: value for name, value in arguments.items() if name in names}
    return ours, {name: value for name, value in arguments.items() if name not in names}
