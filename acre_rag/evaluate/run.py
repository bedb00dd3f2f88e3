"""One evaluation: every method over the same documents and questions, by budget."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from acre_rag.errors import ConfigError
from acre_rag.evaluate.composing import ComposedDocument
from acre_rag.evaluate.dataset import Question
from acre_rag.evaluate.documents import OpenDocument
from acre_rag.evaluate.methods import Readers
from acre_rag.evaluate.metrics import has_long_answers, scores
from acre_rag.evaluate.prompts import Budget, Method, Prompt, recalls_evidence
from acre_rag.evaluate.timing import Timer
from acre_rag.model.answering import AnswerQueue, BatchAnswer, default_batch_tokens
from acre_rag.model.local import LocalModel

_TIMED_TOKENS = 256  # where no number is among the budgets

Progress = Callable[[str, int, int], None]


@dataclass(slots=True, kw_only=True)
class Row:
    """One question and what one method made of it.

    Attributes:
        document: Id of the document.
        question: What was asked.
        method: Name of the method.
        budget: Refilled tokens asked for, or `auto`; 0 where the budget makes no difference.
        refilled_tokens: Raw tokens of the document that the model saw.
        cache_tokens: Tokens before the question's own, prefix and landmarks included.
        recalled: Whether a gold occurrence was among them; `None` where that cannot be told.
        cut: Whether the document was cut in the middle.
        answer: What the model said.
        scores: Measures of the answer.
    """

    document: str
    question: Question
    method: str
    budget: Budget
    refilled_tokens: int
    cache_tokens: int
    recalled: bool | None
    cut: bool
    answer: str = ""
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Documents, methods and settings of one evaluation.

    Attributes:
        readers: The frozen model.
        documents: Composed, with the questions drawn.
        methods: In the order of the results.
        budgets: Refilled tokens, one or more; `auto` for the methods that find it themselves.
        max_new_tokens: Longest answer.
        instructions: Follow each question in place of the prompt's own.
        batch_tokens: Most tokens of a batch; `None` takes what suits the device.
        timed_questions: Questions to time for each method; 0 times none.
    """

    readers: Readers
    documents: Sequence[ComposedDocument]
    methods: Sequence[Method]
    budgets: Sequence[Budget]
    max_new_tokens: int = 32
    instructions: str | None = None
    batch_tokens: int | None = None
    timed_questions: int = 8

    def rows(self, on_progress: Progress | None = None) -> list[Row]:
        """Answer every question with every method and budget.

        Raises:
            ConfigError: No method takes any of the budgets.
            BudgetError: A budget does not fit the context.
        """
        rows: list[Row] = []
        queues: dict[str, AnswerQueue] = {}
        long = has_long_answers([q for d in self.documents for q in d.questions])
        # Filling a batch across documents is worth it where a batch costs little more than one.
        gathers = self.readers.free.local.device.type == "cuda"
        for number, document in enumerate(self.documents):
            opened = self._open(document)
            for method, budget in self._ways():
                made = zip(document.questions, method.prompts(opened, budget), strict=True)
                for question, prompt in made:
                    if prompt is None:
                        continue
                    row = _row(document, question, prompt, method, budget)
                    rows.append(row)
                    # Methods of one model share a queue, so that they fill its batches together.
                    whose = method.name if prompt.answered_by else ""
                    queue = queues.setdefault(whose, self._queue(prompt.answered_by))
                    queue.add(prompt.remembered, _Receiver(row, long=long))
            for queue in queues.values() if not gathers else ():
                queue.flush()
            if on_progress is not None:
                on_progress(document.id, number + 1, len(self.documents))
        for queue in queues.values():
            queue.flush()
        return rows

    def first_token_ms(self) -> dict[str, float]:
        """Time each method on the document with most questions, at the least budget."""
        if not self.timed_questions:
            return {}
        document = max(self.documents, key=lambda one: len(one.questions))
        timed = replace(document, questions=document.questions[: self.timed_questions])
        timer = Timer(
            readers=self.readers,
            opened=self._open(timed),
            budget=next((b for b in self.budgets if b != "auto"), _TIMED_TOKENS),
            instructions=self.instructions,
        )
        found = {method.name: timer.first_token_ms(method) for method in self.methods}
        return {name: value for name, value in found.items() if value is not None}

    def _ways(self) -> list[tuple[Method, Budget]]:
        """Methods with each budget that makes a difference to them."""
        ways = [
            (method, budget)
            for method in self.methods
            for budget in (self.budgets if method.budgeted else (0,))
            if budget != "auto" or method.finds_budget
        ]
        if not ways:
            raise ConfigError(
                "no method finds a budget itself; expected a number of tokens: give one, or add "
                "acre or acre-training-free"
            )
        return ways

    def _open(self, document: ComposedDocument) -> OpenDocument:
        return OpenDocument(
            document,
            free=self.readers.free,
            trained=self.readers.trained,
            max_new_tokens=self.max_new_tokens,
            instructions=self.instructions,
        )

    def _queue(self, tuned: LocalModel | None) -> AnswerQueue:
        local = tuned or self.readers.free.local
        batch_tokens = self.batch_tokens or default_batch_tokens(local.device)
        return AnswerQueue(local, self.max_new_tokens, batch_tokens)


@dataclass(frozen=True, slots=True)
class _Receiver:
    """Writes an answer into its row when it comes."""

    row: Row
    long: bool

    def __call__(self, answer: BatchAnswer) -> None:
        self.row.answer = answer.text
        self.row.scores = scores(answer.text, self.row.question, long=self.long)


def _row(
    document: ComposedDocument, question: Question, prompt: Prompt, method: Method, budget: Budget
) -> Row:
    question_tokens = len(prompt.remembered.ids)
    if method.name.startswith("rag"):
        question_tokens -= prompt.refilled_tokens  # its chunks are text before the question
    return Row(
        document=document.id,
        question=question,
        method=method.name,
        budget=budget,
        refilled_tokens=prompt.refilled_tokens,
        cache_tokens=prompt.remembered.tokens - question_tokens,
        recalled=recalls_evidence(question, prompt.spans),
        cut=prompt.cut,
    )
