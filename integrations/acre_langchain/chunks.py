"""What a model says, as the chunks of the framework's chat models."""

from collections.abc import Generator, Sequence
from dataclasses import asdict
from typing import Any

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.outputs import ChatGenerationChunk

from acre_langchain.asking import Asked
from acre_langchain.generation import Completion


def spoken_chunks(
    spoken: Asked | Completion, stop: Sequence[str], model_name: str
) -> Generator[ChatGenerationChunk, None, None]:
    """Give an answer's chunks as it comes; the last, without text, tells what it cost."""
    pieces = spoken.pieces(stop)
    try:
        for piece in pieces:
            yield ChatGenerationChunk(message=AIMessageChunk(content=piece))
    finally:
        pieces.close()
    metadata: dict[str, Any] = {"model_name": model_name, "model_provider": "acre"}
    if isinstance(spoken, Asked):
        sources = [asdict(source) for source in spoken.stream.sources]
        metadata |= {"sources": sources, "usage": spoken.usage()}
    last = AIMessageChunk(
        content="",
        usage_metadata=_tokens(spoken),
        response_metadata=metadata,
        chunk_position="last",
    )
    yield ChatGenerationChunk(message=last)


def _tokens(spoken: Asked | Completion) -> UsageMetadata:
    """Count tokens: those that a cache held are input, and told as read from it."""
    if isinstance(spoken, Completion):
        given, made = len(spoken.ids), len(spoken.generated)
        return UsageMetadata(input_tokens=given, output_tokens=made, total_tokens=given + made)
    cached, made = spoken.cached_tokens(), spoken.answer_tokens()
    given = cached + spoken.prompt_tokens
    return UsageMetadata(
        input_tokens=given,
        output_tokens=made,
        total_tokens=given + made,
        input_token_details=InputTokenDetails(cache_read=cached),
    )
