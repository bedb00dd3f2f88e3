"""What a model says, as the chunks of the framework's chat models."""

from collections.abc import Mapping
from dataclasses import asdict

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.outputs import ChatGenerationChunk

from acre_langchain.asking import Asked
from acre_rag import Completion


def text_chunk(piece: str) -> ChatGenerationChunk:
    """Give a piece of text."""
    return ChatGenerationChunk(message=AIMessageChunk(content=piece))


def answer_end(asked: Asked, model_name: str) -> ChatGenerationChunk:
    """End an answer from documents: what it cost, and where it is from.

    Tokens that a cache held are input, and told as read from it.
    """
    stream = asked.stream
    cached = stream.usage.landmarks + stream.usage.refilled_tokens
    told = {"sources": [asdict(source) for source in stream.sources], "usage": asked.usage()}
    return _end(
        model_name,
        told,
        prompt=cached + stream.prompt_tokens,
        made=stream.new_tokens,
        cached=cached,
    )


def completion_end(completion: Completion, model_name: str) -> ChatGenerationChunk:
    """End what a model has said by itself: what it cost."""
    return _end(model_name, {}, prompt=completion.prompt_tokens, made=completion.new_tokens)


def _end(
    model_name: str,
    told: Mapping[str, object],
    *,
    prompt: int,
    made: int,
    cached: int | None = None,
) -> ChatGenerationChunk:
    tokens = UsageMetadata(input_tokens=prompt, output_tokens=made, total_tokens=prompt + made)
    if cached is not None:
        tokens["input_token_details"] = InputTokenDetails(cache_read=cached)
    message = AIMessageChunk(
        content="",
        usage_metadata=tokens,
        response_metadata={"model_name": model_name, "model_provider": "acre", **told},
        chunk_position="last",
    )
    return ChatGenerationChunk(message=message)
