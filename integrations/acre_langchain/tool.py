"""`ACRETool`: an agent of any model asks stored documents."""

from typing import Any, Literal

from langchain_core.callbacks import (
    AsyncCallbackManagerForToolRun,
    CallbackManagerForToolRun,
)
from langchain_core.documents import Document
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, ToolException
from langchain_core.tools.base import ArgsSchema
from pydantic import BaseModel, ConfigDict, Field

from acre_langchain.chain import ACREAnswerChain
from acre_langchain.output import ACREOutput
from acre_rag import ACREEngine, ACREError

_DESCRIPTION = (
    "Answers a question from the user's documents, which have been read before. Ask one complete "
    "question at a time, in the words of the documents where you know them, and name what it is "
    "about: nothing said earlier is known here. Gives a short answer and the places that it is "
    "taken from."
)


class AskDocuments(BaseModel):
    """What an agent says to ask documents."""

    question: str = Field(description="One complete question, understandable by itself.")


class ACRETool(BaseTool):
    """Answers an agent's question from the caches of documents.

    The content is the answer and its best places; the artifact is all that `ACREAnswerChain`
    gives: `answer`, `context`, `usage`. With `handle_tool_error=True` the agent is told what was
    wrong with its question, and may ask another.

    Args:
        engine: Reads and answers; makes a plain chain.
        chain: Answers instead, with settings of its own.

    Attributes:
        chain: Answers.
        shown_places: Most places named in the content.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    name: str = "ask_documents"
    description: str = _DESCRIPTION
    args_schema: ArgsSchema | None = AskDocuments
    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"
    chain: ACREAnswerChain = Field(exclude=True, repr=False)
    shown_places: int = Field(default=3, ge=0)

    def __init__(
        self,
        engine: ACREEngine | None = None,
        *,
        chain: ACREAnswerChain | None = None,
        **settings: Any,  # noqa: ANN401  # the base class's own
    ) -> None:
        if engine is not None and chain is None:
            chain = ACREAnswerChain(engine=engine)
        elif chain is None or engine is not None:
            raise ACREError(
                "ACRETool got engine and chain, or neither; expected one of the two: give "
                "engine=, or chain=ACREAnswerChain(...) for settings"
            )
        super().__init__(chain=chain, **settings)

    def _run(
        self, question: str, run_manager: CallbackManagerForToolRun | None = None
    ) -> tuple[str, ACREOutput]:
        config = RunnableConfig(callbacks=run_manager.get_child() if run_manager else None)
        try:
            return self._told(self.chain.invoke(question, config))
        except ACREError as error:
            raise ToolException(str(error)) from error

    async def _arun(
        self, question: str, run_manager: AsyncCallbackManagerForToolRun | None = None
    ) -> tuple[str, ACREOutput]:
        config = RunnableConfig(callbacks=run_manager.get_child() if run_manager else None)
        try:
            return self._told(await self.chain.ainvoke(question, config))
        except ACREError as error:
            raise ToolException(str(error)) from error

    def _told(self, answered: ACREOutput) -> tuple[str, ACREOutput]:
        places = [_place(one) for one in answered["context"][: self.shown_places]]
        lines = [answered["answer"] or "(no answer)", *places]
        return "\n".join(lines), answered


def _place(document: Document) -> str:
    at = document.metadata
    return f"[{at['document_id']}, characters {at['start_index']} to {at['end_index']}]"
