"""`ACREEngine`: read documents once, ask them as often as you like."""

from collections.abc import Iterable, Sequence
from os import PathLike

from acre_rag.answer import Answer, Retrieval
from acre_rag.config import ACREConfig, RefillTokens
from acre_rag.engine.batch import answer_all
from acre_rag.engine.completion import Completion
from acre_rag.engine.keeping import DocumentKeeper
from acre_rag.engine.planning import Planner
from acre_rag.engine.question import Questioner
from acre_rag.engine.stream import AnswerStream
from acre_rag.engine.worker import Worker
from acre_rag.explanation import Explanation
from acre_rag.model.landmarks import LandmarkAdapter
from acre_rag.model.local import LocalModel
from acre_rag.model.messages import prompt_ids
from acre_rag.request import (
    DEFAULT_COMPLETION_TOKENS,
    DEFAULT_NEW_TOKENS,
    USUAL_QUESTION,
    Request,
    check_source_count,
    checked_ids,
    checked_questions,
)
from acre_rag.store.protocol import CacheStore


class ACREEngine(DocumentKeeper):
    """Reads documents into a store once, and answers questions from their caches.

    One engine may be used from several threads, which wait for one another: `ask_all` is sooner.

    Args:
        model: Hub name or path, or a `LocalModel`; `None` takes the demo model.
        adapter: Directory of a landmark adapter, or the adapter itself; `"none"` for the
            training-free mode; `None` takes the adapter that ships for the model, if one does.
        store: Path or URL, or a store; `None` takes `ACRE_STORE`, else a per-user directory.
        config: Settings.

    Attributes:
        config: Settings.
        store: Keeps the caches.
        reader: Model, adapter and settings, for this package's own rooms.
        worker: Runs what asyncio asks of this engine.

    Raises:
        ModelError: There is no such model, or refilling it would not be exact.
        AdapterError: The adapter is missing, broken, or of another model.
        StoreError: The store cannot be opened.
        ConfigError: The settings do not fit the model, or the adapter's interval.
    """

    def __init__(
        self,
        model: str | PathLike[str] | LocalModel | None = None,
        adapter: str | PathLike[str] | LandmarkAdapter | None = None,
        store: str | PathLike[str] | CacheStore | None = None,
        config: ACREConfig | None = None,
    ) -> None:
        super().__init__(model, adapter, store, config)
        self._planner = Planner(self.reader, self._recall, self._archive)
        self._questioner = Questioner(self.reader, self._recall, self._archive, self._planner)
        self.worker = Worker()

    @property
    def model_name(self) -> str:
        """Name or path of the model."""
        return self.reader.local.name

    @property
    def context_tokens(self) -> int:
        """Longest sequence that the model is given, its answer included."""
        return self.reader.context_tokens

    @property
    def fingerprint(self) -> str:
        """Digest of all that an answer depends on beside the question and its documents."""
        return self.reader.fingerprint

    def retrieve(
        self,
        question: str,
        documents: Sequence[str] | None = None,
        refill_tokens: RefillTokens = None,
        *,
        sources: int | None = None,
    ) -> Retrieval:
        """Find where a question would look: no L2 is read, nothing is decoded.

        Args:
            question: The user's question.
            documents: Ids to ask; `None` asks all that are stored, passages left out.
            refill_tokens: Most raw tokens to choose; `None` takes a quarter of the documents, at
                least 256 and at most 4,096, within the context; `auto` takes from 64 to as many,
                as few as the scores say that the question needs.
            sources: Runs are split or cut to give so many, as far as there are intervals; `None`
                gives them as they are.

        Raises:
            ConfigError: The question is empty, or a number is below what it may be.
            DocumentNotFoundError: A document is not stored, or none is.
            BudgetError: Question and refill do not fit the context.
        """
        check_source_count(sources)
        request = Request(
            question=question,
            documents=checked_ids(documents),
            refill_tokens=refill_tokens,
            max_new_tokens=None,
        )
        return self._questioner.ask(request).retrieval(sources)

    def ask(
        self,
        question: str,
        documents: Sequence[str] | None = None,
        refill_tokens: RefillTokens = None,
        max_new_tokens: int = DEFAULT_NEW_TOKENS,
        instructions: str | None = None,
    ) -> Answer:
        """Answer a question from the caches of documents.

        Args:
            question: The user's question.
            documents: Ids to ask, spliced in that order; `None` asks all that are
                stored, passages left out.
            refill_tokens: As in `retrieve`.
            max_new_tokens: Longest answer.
            instructions: Replaces the prompt's own, after the question; caches stay valid.

        Raises:
            ConfigError: The question is empty, or a number is below what it may be.
            DocumentNotFoundError: A document is not stored, or none is.
            BudgetError: Question, refill and answer do not fit the context.
        """
        stream = self.stream(question, documents, refill_tokens, max_new_tokens, instructions)
        return stream.finish()

    def ask_all(
        self,
        questions: Iterable[str],
        documents: Sequence[str] | None = None,
        refill_tokens: RefillTokens = None,
        max_new_tokens: int = DEFAULT_NEW_TOKENS,
        instructions: str | None = None,
    ) -> list[Answer]:
        """Answer several questions together: the words of `ask`, sooner than one after another.

        Each question chooses its own intervals. Landmarks are loaded once, and count as read by
        the first. Of an answer's `seconds`, `load` and `select` are those of all questions,
        `fetch` is its own, and `first_token` and `total` count from the call, as all wait for the
        others of their batch. Batches are bounded by their tokens, and with them the memory.

        Args:
            questions: None of them empty; there may be none.
            documents: As in `ask`; all questions are asked the same.
            refill_tokens: As in `ask`, for each question.
            max_new_tokens: Longest of each answer.
            instructions: As in `ask`.

        Returns:
            An answer to each question, in their order.

        Raises:
            ACREError: As in `ask`, before any question is answered; what is wrong with one
                question names it.
            ModelError: One question alone exhausts the device's memory.
        """
        asked = checked_questions(questions)
        ids = checked_ids(documents)
        requests = [
            Request(
                question=question,
                documents=ids,
                refill_tokens=refill_tokens,
                max_new_tokens=max_new_tokens,
                instructions=instructions,
            )
            for question in asked
        ]
        if not requests:
            return []
        return answer_all(self.reader, self._questioner, requests, max_new_tokens)

    def stream(
        self,
        question: str,
        documents: Sequence[str] | None = None,
        refill_tokens: RefillTokens = None,
        max_new_tokens: int = DEFAULT_NEW_TOKENS,
        instructions: str | None = None,
    ) -> AnswerStream:
        """Answer as `ask` does, giving the text as it is generated.

        Closing the stream stops the model. Its `answer` is there once it has ended.
        """
        request = Request(
            question=question,
            documents=checked_ids(documents),
            refill_tokens=refill_tokens,
            max_new_tokens=max_new_tokens,
            instructions=instructions,
        )
        asked, refilled = self._questioner.prepare(request)
        return AnswerStream(self.reader, asked, refilled, max_new_tokens)

    def explain(
        self,
        question: str | None = None,
        documents: Sequence[str] | None = None,
        refill_tokens: RefillTokens = None,
        max_new_tokens: int = DEFAULT_NEW_TOKENS,
        *,
        measure: bool = False,
    ) -> Explanation:
        """Predict what a question would cost, plan by plan; nothing is asked.

        This machine is measured in some seconds the first time, and that is kept.

        Args:
            question: The user's question; `None` takes one of a usual length.
            documents: As in `retrieve`.
            refill_tokens: As in `retrieve`; `auto` is taken for the most that it may choose.
            max_new_tokens: Longest answer.
            measure: Measure anew, whatever was kept.

        Raises:
            ACREError: As in `ask`.
        """
        request = Request(
            question=USUAL_QUESTION if question is None else question,
            documents=checked_ids(documents),
            refill_tokens=refill_tokens,
            max_new_tokens=max_new_tokens,
        )
        return self._planner.explain(self._questioner.find(request), request, measure=measure)

    def complete(
        self,
        prompt: str | Sequence[tuple[str, str]],
        max_new_tokens: int = DEFAULT_COMPLETION_TOKENS,
    ) -> Completion:
        """Let the model speak by itself, no document being asked.

        Args:
            prompt: A string, completed as it stands; or messages for the model's chat template:
                pairs of a role (`system`, `user`, `assistant`) and a text.
            max_new_tokens: Longest completion.

        Raises:
            ConfigError: The prompt is empty, or holds what the chat template refuses.
            BudgetError: Prompt and completion do not fit the context.
        """
        return Completion(self.reader, prompt, max_new_tokens)

    def token_ids(self, prompt: str | Sequence[tuple[str, str]]) -> list[int]:
        """Encode what `complete` would be given, without running the model.

        Args:
            prompt: As in `complete`.

        Raises:
            ConfigError: As in `complete`.
        """
        return prompt_ids(self.reader.local.tokenizer, prompt)
