"""The framework's messages as those of an engine."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from llama_index.core.base.llms.types import (
    AudioBlock,
    ChatMessage,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    VideoBlock,
)

from acre_rag import ACREError

_ROLES: Mapping[MessageRole, str] = MappingProxyType(
    {
        MessageRole.SYSTEM: "system",
        MessageRole.DEVELOPER: "system",
        MessageRole.ASSISTANT: "assistant",
        MessageRole.CHATBOT: "assistant",
        MessageRole.MODEL: "assistant",
    }
)


def pairs_of(messages: Sequence[ChatMessage]) -> list[tuple[str, str]]:
    """Turn messages into roles and texts; what tools say, the user says.

    Raises:
        ACREError: A message holds something other than text.
    """
    return [(_ROLES.get(message.role, "user"), _text(message)) for message in messages]


def _text(message: ChatMessage) -> str:
    for block in message.blocks:
        if isinstance(block, (ImageBlock, AudioBlock, VideoBlock, DocumentBlock)):
            raise ACREError(
                f"a message holds a {type(block).__name__}; expected text, which is all that the "
                "model reads: leave it out, or say in words what it shows"
            )
    return message.content or ""
