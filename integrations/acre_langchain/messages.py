"""The framework's messages as plain turns, and a conversation as one question."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage

from acre_rag import ACREError

Role = Literal["system", "user", "assistant"]
Turn: TypeAlias = tuple[Role, str]
_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A conversation as an engine is asked it.

    Attributes:
        question: What was said last, after what was said before it.
        instructions: What the system said; `None` where it said nothing.
    """

    question: str
    instructions: str | None


def read_turns(messages: Sequence[BaseMessage]) -> list[Turn]:
    """Read messages of plain text, as an engine takes them.

    Raises:
        ACREError: There are none, or one is of a kind that a text model has no turn for.
    """
    if not messages:
        raise ACREError("the list of messages is empty; expected one or more: say something")
    return [(_role(message), _text(message)) for message in messages]


def as_question(turns: Sequence[Turn]) -> Conversation:
    """Turn a conversation into one question: history is ordinary text before it.

    Raises:
        ACREError: The last turn is the model's own.
    """
    told = "\n".join(text for role, text in turns if role == "system")
    said = [turn for turn in turns if turn[0] != "system"]
    if not said:
        return Conversation(question=told, instructions=None)
    *earlier, (last_role, question) = said
    if last_role != "user":
        raise ACREError(
            "the last message is the model's own; expected a question to the documents: end "
            "with a HumanMessage"
        )
    history = "".join(f"{role.capitalize()}: {text}\n" for role, text in earlier)
    return Conversation(question=history + question, instructions=told or None)


def _role(message: BaseMessage) -> Role:
    match message:
        case AIMessage(tool_calls=[]):
            return "assistant"
        case HumanMessage():
            return "user"
        case SystemMessage():
            return "system"
        case ChatMessage(role=role) if role in _ROLES:
            return _ROLES[role]
    called = " that calls tools" if isinstance(message, AIMessage) else ""
    raise ACREError(
        f"a message is a {type(message).__name__}{called}; expected system, human and AI messages "
        "of text: leave tools to an agent of another model, and give it an ACRETool"
    )


def _text(message: BaseMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    for block in message.content:
        kind = "text" if isinstance(block, str) else block.get("type")
        if kind != "text":
            raise ACREError(
                f"a message holds a block of type {kind!r}; expected text alone: the model reads "
                "nothing else"
            )
    return str(message.text)
