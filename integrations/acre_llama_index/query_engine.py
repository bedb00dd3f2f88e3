"""`ACREQueryEngine`: questions answered from refilled caches."""

from collections.abc import Sequence
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.response.schema import RESPONSE_TYPE
from llama_index.core.callbacks import CallbackManager
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import QueryBundle

from acre_llama_index.asking import Asking, ask, begin
from acre_llama_index.retriever import ACRERetriever
from acre_llama_index.synthesizer import ACRESynthesizer
from acre_llama_index.telling import querying, retrieving, synthesizing
from acre_rag import ACREEngine, RefillTokens


class ACREQueryEngine(RetrieverQueryEngine):
    """Answers questions from the caches of documents, refilled where the question looks.

    Responses carry what was refilled as source nodes, the best-scoring first, and what it cost
    as metadata: `usage`, and `seconds` once a streaming response has ended. Notebooks show a whole
    response with its refill map.

    Args:
        engine: Reads and answers; `None` takes that of an `ACRERetriever`, else makes one with
            the default model and store.
        retriever: Stands in front: the documents its nodes come from are asked, from their
            caches; what is not stored yet is read now, and kept until `drop_passages`. `None` asks
            the engine's own documents.
        streaming: Give answers as they are generated.
        documents: Without a retriever: ids to ask; `None` asks all that are stored.
        refill_tokens: Most raw tokens to refill, or `auto`; `None` takes those of an
            `ACRERetriever`, else leaves it to the engine.
        max_new_tokens: Longest answer.
        instructions: Replaces the prompt's own.
        node_postprocessors: Change what the retriever found before its documents are asked.
        callback_manager: The framework's older instruments.
    """

    def __init__(  # noqa: PLR0913  # the framework's users set everything in one call
        self,
        engine: ACREEngine | None = None,
        retriever: BaseRetriever | None = None,
        streaming: bool = False,
        *,
        documents: Sequence[str] | None = None,
        refill_tokens: RefillTokens = None,
        max_new_tokens: int = 64,
        instructions: str | None = None,
        node_postprocessors: list[BaseNodePostprocessor] | None = None,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        if engine is None:
            engine = retriever.engine if isinstance(retriever, ACRERetriever) else ACREEngine()
        if refill_tokens is None and isinstance(retriever, ACRERetriever):
            refill_tokens = retriever.refill_tokens
        self._synthesizer = ACRESynthesizer(
            engine,
            streaming,
            refill_tokens=refill_tokens,
            max_new_tokens=max_new_tokens,
            instructions=instructions,
            callback_manager=callback_manager,
        )
        super().__init__(
            retriever=retriever
            or ACRERetriever(
                engine,
                documents=documents,
                refill_tokens=refill_tokens,
                callback_manager=callback_manager,
            ),
            response_synthesizer=self._synthesizer,
            node_postprocessors=node_postprocessors,
            callback_manager=callback_manager,
        )

    @classmethod
    def from_args(  # type: ignore[override]  # those of the base class are for prompts
        cls,
        retriever: BaseRetriever,
        **settings: Any,  # noqa: ANN401  # the class names and types them
    ) -> "ACREQueryEngine":
        """Make one as the framework's own are made, without its `Settings`; see the class."""
        return cls(retriever=retriever, **settings)

    @property
    def engine(self) -> ACREEngine:
        """What reads and answers."""
        return self._synthesizer.engine

    def drop_passages(self) -> int:
        """Delete texts that were stored for a retriever; see `ACRESynthesizer.drop_passages`."""
        return self._synthesizer.drop_passages()

    def _query(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        own, question = self._own_retriever(), query_bundle.query_str
        if own is None:
            response: RESPONSE_TYPE = super()._query(query_bundle)
            return response
        with querying(self.callback_manager, query_bundle) as tell:
            with retrieving(self.callback_manager, query_bundle) as tell_nodes:
                asking = self._ask(own, question)
                tell_nodes(asking.nodes if asking is not None else [])
            with synthesizing(self.callback_manager, query_bundle) as tell_answer:
                response = self._synthesizer.respond(asking, question)
                tell_answer(response)
            tell(response)
        return response

    async def _aquery(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        own, question = self._own_retriever(), query_bundle.query_str
        if own is None:
            response: RESPONSE_TYPE = await super()._aquery(query_bundle)
            return response
        with querying(self.callback_manager, query_bundle) as tell:
            with retrieving(self.callback_manager, query_bundle) as tell_nodes:
                text = begin(self.engine, lambda: self._ask(own, question))
                asking = await text.head()
                tell_nodes(asking.nodes if asking is not None else [])
            with synthesizing(self.callback_manager, query_bundle) as tell_answer:
                response = await self._synthesizer.arespond(asking, question, text)
                tell_answer(response)
            tell(response)
        return response

    def _own_retriever(self) -> ACRERetriever | None:
        """Our retriever, where one selection may serve both retrieval and answer."""
        retriever = self.retriever
        if (
            isinstance(retriever, ACRERetriever)
            and retriever.engine is self.engine
            and retriever.similarity_top_k is None
            and retriever.refill_tokens == self._synthesizer.settings.refill_tokens
            and not self._node_postprocessors
        ):
            return retriever
        return None

    def _ask(self, retriever: ACRERetriever, question: str) -> Asking | None:
        return ask(self.engine, question, retriever.candidates(), self._synthesizer.settings)
