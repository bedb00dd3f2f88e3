"""Chats over an index: which of the framework's chat engines, and what each is given."""

from collections.abc import Mapping

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.chat_engine import (
    CondensePlusContextChatEngine,
    CondenseQuestionChatEngine,
    ContextChatEngine,
    SimpleChatEngine,
)
from llama_index.core.chat_engine.types import BaseChatEngine, ChatMode
from llama_index.core.llms import LLM

from acre_rag import ACREError

RETRIEVER_ARGUMENTS = frozenset({"similarity_top_k", "filters", "doc_ids", "refill_tokens"})
QUERY_ARGUMENTS = RETRIEVER_ARGUMENTS | {
    "streaming",
    "max_new_tokens",
    "instructions",
    "node_postprocessors",
}


def condensing_chat(
    query_engine: BaseQueryEngine, llm: LLM, arguments: Mapping[str, object]
) -> BaseChatEngine:
    """Condense a conversation into one question, which is asked as any other."""
    return CondenseQuestionChatEngine.from_defaults(
        query_engine=query_engine,
        llm=llm,
        **arguments,  # type: ignore[arg-type]  # the chat engine checks them
    )


def text_chat(
    mode: ChatMode, retriever: BaseRetriever, llm: LLM, arguments: Mapping[str, object]
) -> BaseChatEngine:
    """Put text into the prompt of an LLM; no cache is used.

    Raises:
        ACREError: There is no such mode.
    """
    if mode == ChatMode.SIMPLE:
        return SimpleChatEngine.from_defaults(llm=llm, **arguments)  # type: ignore[arg-type]
    engines = {
        ChatMode.CONTEXT: ContextChatEngine,
        ChatMode.CONDENSE_PLUS_CONTEXT: CondensePlusContextChatEngine,
    }
    if mode not in engines:
        modes = ", ".join(["condense_question", "simple", *(known.value for known in engines)])
        raise ACREError(f"chat_mode is {str(mode)!r}; expected one of {modes}: choose one")
    return engines[mode].from_defaults(  # type: ignore[attr-defined, no-any-return]
        retriever=retriever, llm=llm, **arguments
    )
