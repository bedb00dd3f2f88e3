"""What several tests of the LlamaIndex integration put beside our parts."""

from llama_index.core import Document
from llama_index.core.base.llms.types import (
    CompletionResponse,
    CompletionResponseGen,
    LLMMetadata,
)
from llama_index.core.llms import CustomLLM
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.core.memory import ChatMemoryBuffer

from tests.integrations.conftest import DRYER, FERRY

QUESTION = "When does the ferry leave?"
TEXTS = {FERRY.id: FERRY.text, DRYER.id: DRYER.text}


def llama_documents() -> list[Document]:
    return [
        Document(doc_id=one.id, text=one.text, metadata=dict(one.metadata))
        for one in (FERRY, DRYER)
    ]


def memory() -> ChatMemoryBuffer:
    """Remember in plain memory: the framework's default leaves a database open behind it."""
    return ChatMemoryBuffer.from_defaults(token_limit=2000)


class ScriptedLLM(CustomLLM):
    """Says one line after the other, as a model of somebody else's might; keeps what it is told."""

    lines: list[str]
    prompts: list[str] = []  # noqa: RUF012  # a field of the framework's model

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata()

    @llm_completion_callback()
    def complete(self, prompt: str, **_unused: object) -> CompletionResponse:
        self.prompts.append(prompt)
        return CompletionResponse(text=self.lines.pop(0))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, **_unused: object) -> CompletionResponseGen:
        whole = self.complete(prompt)
        return (CompletionResponse(text=whole.text, delta=whole.text) for _ in range(1))
