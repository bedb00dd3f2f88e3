"""Chats over an index: which of the framework's chat engines, and what each is given."""

import inspect
from collections.abc import Collection, Mapping
from types import MappingProxyType
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
from acre_rag import ACREError

if TYPE_CHECKING:
    from acre_llama_index.index import ACREIndex

_SEARCH = frozenset({"similarity_top_k", "filters", "doc_ids", "refill_tokens"})
_ASK = _SEARCH | {"max_new_tokens", "instructions", "node_postprocessors"}
_TEXT_MODES: Mapping[str, type[BaseChatEngine]] = MappingProxyType(
    {
        "simple": SimpleChatEngine,
        "context": ContextChatEngine,
        "condense_plus_context": CondensePlusContextChatEngine,
    }
)
# What the methods below give themselves, and what the condensing chat engine refuses in its words.
_NO_OPTIONS = frozenset({"llm", "retriever", "query_engine", "kwargs"})
_NOT_WHILE_CONDENSING = frozenset({"system_prompt", "prefix_messages"})


def condensing_chat(
    index: "ACREIndex", llm: LLM | None, arguments: Mapping[str, Any]
) -> BaseChatEngine:
    """Condense a conversation into one question, which is asked as any other.

    Raises:
        ACREError: An option is none of this mode's.
    """
    options = _options(CondenseQuestionChatEngine) - _NOT_WHILE_CONDENSING
    _check("condense_question", arguments, _ASK | options)
    engine: BaseChatEngine = CondenseQuestionChatEngine.from_defaults(
        query_engine=index.as_query_engine(**_those(arguments, _ASK)),
        llm=llm or ACRELLM(index.engine),
        **_those(arguments, options - _ASK),
    )
    return engine


def text_chat(
    index: "ACREIndex", mode: ChatMode, llm: LLM | None, arguments: Mapping[str, Any]
) -> BaseChatEngine:
    """Put text into the prompt of an LLM; no cache is used.

    Raises:
        ACREError: There is no such mode, or an option is none of this mode's.
    """
    name = str(getattr(mode, "value", mode))
    kind = _TEXT_MODES.get(name)
    if kind is None:
        raise ACREError(
            f"chat_mode is {name!r}; expected condense_question, best, simple, context or "
            "condense_plus_context: choose one, or give an agent "
            "QueryEngineTool.from_defaults(index.as_query_engine())"
        )
    search = _SEARCH if kind is not SimpleChatEngine else frozenset()
    length = (
        frozenset({"max_new_tokens"}) if llm is None else frozenset()
    )  # another LLM has its own
    options = _options(kind)
    _check(name, arguments, search | length | options)
    parts = {"retriever": index.as_retriever(**_those(arguments, search))} if search else {}
    speaker = llm or ACRELLM(index.engine, **_those(arguments, length))
    engine: BaseChatEngine = kind.from_defaults(  # type: ignore[attr-defined]  # of each, not of the base
        llm=speaker, **parts, **_those(arguments, options)
    )
    return engine


def _options(kind: type[BaseChatEngine]) -> frozenset[str]:
    """Name what a chat engine of the framework may be given."""
    make = kind.from_defaults  # type: ignore[attr-defined]  # of each, not of the base
    return frozenset(inspect.signature(make).parameters) - _NO_OPTIONS


def _check(mode: str, arguments: Mapping[str, Any], known: Collection[str]) -> None:
    """Refuse what the framework would swallow; all of its chats can stream without being told."""
    unknown = sorted(set(arguments) - {*known, "streaming"})
    if unknown:
        raise ACREError(
            f"chat mode {mode!r} is given {', '.join(unknown)}; expected some of "
            f"{', '.join(sorted(known))}: leave it out, or choose a mode that has it"
        )


def _those(arguments: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name in names}
