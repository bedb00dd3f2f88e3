"""One step's batch: composed documents and questions, padded to one shape."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from acre_rag.model.landmarks import question_groups
from acre_rag.model.prompt import QuestionRows
from acre_rag.model.question_rows import question_landmark_rows
from acre_rag.train.composing import ComposedDocument, Composer, PlacedQuestion
from acre_rag.train.packs import Ids, QuestionPack

IGNORED = -100  # target of a token that no loss is taken of
ROWS = 64  # questions are padded to a multiple of so many rows


@dataclass(frozen=True, slots=True, kw_only=True)
class StepShape:
    """Sizes of one step.

    Attributes:
        contexts: What is asked about, each of its own.
        documents: Documents that each of them consists of.
        tokens: Tokens of a document.
        questions: Questions for each context.
        weight: How often this shape is drawn, beside the others.
        refill_tokens: Raw tokens to refill.
        pack: Question pack it takes its documents from.
    """

    contexts: int
    documents: int
    tokens: int
    questions: int
    weight: float
    refill_tokens: int = 256
    pack: str = "squad"

    def scaled(self, scale: float) -> "StepShape":
        """Take more or fewer contexts."""
        return replace(self, contexts=max(int(self.contexts * scale), 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionBatch:
    """Documents and questions about them, as tensors.

    Attributes:
        ids: (contexts, documents, windows, window tokens), the last window padded at its end.
        tokens: Tokens of a document, padding left out.
        owner: Context of each question, rising, (questions,).
        rows: What follows the documents, room for the question's landmarks before the last token
            of that, then the answer, padded, (questions, rows).
        row_lengths: Rows before the answer, (questions,).
        groups: Share of each row in each question group, (questions, groups, rows).
        targets: Answer and end of turn, `IGNORED` behind them, (questions, answer tokens).
        gold: Share of each interval in the gold evidence, (questions, intervals); all zero for a
            question that has none.
        exact: Whether the gold intervals are the answer's own, (questions,).
        forced: Whether the gold intervals are refilled whatever their score, (questions,).
        asked_rows: Rows that hold every question, its answer left out.
        refill_tokens: Raw tokens to refill.
        question_landmarks: Landmarks of each question.
    """

    ids: Tensor
    tokens: int
    owner: Tensor
    rows: Tensor
    row_lengths: Tensor
    groups: Tensor
    targets: Tensor
    gold: Tensor
    exact: Tensor
    forced: Tensor
    asked_rows: int
    refill_tokens: int
    question_landmarks: int = 0

    def landmark_rows(self, width: int) -> Tensor | None:
        """Place the questions' landmarks, counted through rows of a width, (questions, landmarks).

        `None` where there are none.
        """
        if not self.question_landmarks:
            return None
        return question_landmark_rows(self.row_lengths, self.question_landmarks, width)

    def to(self, device: torch.device) -> "QuestionBatch":
        """Move the tensors to a device."""
        return replace(
            self,
            ids=self.ids.to(device),
            owner=self.owner.to(device),
            rows=self.rows.to(device),
            row_lengths=self.row_lengths.to(device),
            groups=self.groups.to(device),
            targets=self.targets.to(device),
            gold=self.gold.to(device),
            exact=self.exact.to(device),
            forced=self.forced.to(device),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSettings:
    """How steps are drawn.

    Attributes:
        interval_tokens: Raw tokens that one landmark stands for.
        window_tokens: Raw tokens of a window.
        eos_id: Ends every answer.
        refusals: Answers to questions that the context does not answer, as token ids.
        unanswerable: Share of such questions.
        forced: Share of questions whose gold intervals are refilled whatever their score.
        in_order: Share of documents that keep the order of one article.
        question_landmarks: Landmarks of each question.
    """

    interval_tokens: int
    window_tokens: int
    eos_id: int
    refusals: Sequence[Sequence[int]]
    unanswerable: float = 0.06
    forced: float = 0.6
    in_order: float = 0.6
    question_landmarks: int = 0


class QuestionSteps(Dataset[QuestionBatch]):
    """Batches by step: the same seed and step give the same batch."""

    def __init__(
        self,
        packs: Mapping[str, QuestionPack],
        shapes: Sequence[StepShape],
        settings: BatchSettings,
        *,
        seed: int,
    ) -> None:
        self._packs = packs
        self._composers = {name: Composer(pack) for name, pack in packs.items()}
        self._shapes = shapes
        self._settings = settings
        self._seed = seed

    def __getitem__(self, step: int) -> QuestionBatch:
        rng = np.random.default_rng([self._seed, step])
        weights = np.asarray([shape.weight for shape in self._shapes])
        return self.batch(rng, self._shapes[rng.choice(len(weights), p=weights / weights.sum())])

    def batch(self, rng: np.random.Generator, shape: StepShape) -> QuestionBatch:
        """Draw a batch of one shape."""
        contexts: list[list[Ids]] = []
        questions: list[PlacedQuestion] = []
        owner: list[int] = []
        for context in range(shape.contexts):
            drawn = [self._document(rng, shape) for _ in range(shape.documents)]
            placed = join_questions(drawn, shape.tokens)
            contexts.append([document.ids for document in drawn])
            order = rng.permutation(len(placed)).tolist()
            own = [placed[order[i % len(order)]] for i in range(shape.questions) if order]
            own += [self._foreign(rng, shape.pack) for _ in range(shape.questions - len(own))]
            keep = rng.random(shape.questions) >= self._settings.unanswerable
            questions.extend(
                asked if kept else self._foreign(rng, shape.pack)
                for asked, kept in zip(own, keep, strict=True)
            )
            owner.extend([context] * shape.questions)
        forced = rng.random(len(questions)) < self._settings.forced
        batch = collate(
            self._packs[shape.pack],
            contexts,
            questions,
            owner,
            self._settings,
            refill_tokens=min(shape.refill_tokens, shape.documents * shape.tokens),
            rng=rng,
        )
        return replace(batch, forced=torch.from_numpy(forced))

    def _document(self, rng: np.random.Generator, shape: StepShape) -> ComposedDocument:
        composer = self._composers[shape.pack]
        # Only paragraphs that were asked about one by one make sense without their article.
        if shape.pack == "squad" and rng.random() >= self._settings.in_order:
            return composer.mixed(rng, shape.tokens)
        return composer.in_order(rng, shape.tokens)

    def _foreign(self, rng: np.random.Generator, pack: str) -> PlacedQuestion:
        """Draw a question of any document; without evidence it is one that nothing answers."""
        return PlacedQuestion(int(rng.integers(len(self._packs[pack].rows))), (), exact=False)


def join_questions(documents: Sequence[ComposedDocument], tokens: int) -> list[PlacedQuestion]:
    """Count the places of questions through all documents of a context."""
    return [
        replace(
            asked,
            spans=tuple((a + number * tokens, b + number * tokens) for a, b in asked.spans),
        )
        for number, document in enumerate(documents)
        for asked in document.questions
    ]


def collate(
    pack: QuestionPack,
    contexts: Sequence[Sequence[Ids]],
    questions: Sequence[PlacedQuestion],
    owner: Sequence[int],
    settings: BatchSettings,
    *,
    refill_tokens: int,
    rng: np.random.Generator,
) -> QuestionBatch:
    """Pad documents and questions to one shape.

    Args:
        pack: Where the questions come from.
        contexts: Token ids of each context's documents, all of one length, which is a multiple of
            the interval.
        questions: Questions; one without spans is taken as one that its context does not answer.
        owner: Context of each question.
        settings: Sizes.
        refill_tokens: Raw tokens to refill.
        rng: Picks the words of a refusal.
    """
    tokens = len(contexts[0][0])
    window = min(settings.window_tokens, tokens)
    windows = -(-tokens // window)
    ids = np.zeros((len(contexts), len(contexts[0]), windows * window), np.int64)
    for context, documents in enumerate(contexts):
        for number, document in enumerate(documents):
            ids[context, number, :tokens] = document
    asked = [pack.rows[question.index] for question in questions]
    answers = [
        pack.answers[question.index].tolist()
        if question.spans
        else list(settings.refusals[int(rng.integers(len(settings.refusals)))])
        for question in questions
    ]
    more = settings.question_landmarks
    lengths = np.asarray([len(rows) + more for rows in asked])
    # Few lengths: a graph is captured for each, and its time is that of its longest question.
    asked_rows = -(-int(lengths.max(initial=1)) // ROWS) * ROWS
    longest = max(*pack.answers.lengths.tolist(), *map(len, settings.refusals))
    width = asked_rows + -(-longest // 8) * 8
    rows = np.full((len(asked), width), settings.eos_id, np.int64)
    groups = np.zeros((len(asked), question_groups(more), rows.shape[1]), np.float32)
    targets = np.full((len(asked), longest + 1), IGNORED, np.int64)
    intervals = len(contexts[0]) * tokens // settings.interval_tokens
    gold = np.zeros((len(asked), intervals), np.float32)
    for i, (question, own, answer) in enumerate(zip(questions, asked, answers, strict=True)):
        rows[i, : len(own) - 1] = own[:-1]
        before = len(own) + more
        rows[i, before - 1 : before + len(answer)] = [own[-1], *answer]
        targets[i, : len(answer) + 1] = [*answer, settings.eos_id]
        start, stop = pack.asked[question.index]
        question_rows = QuestionRows(
            ids=own.tolist(), question=range(start, stop), tail=range(stop, len(own))
        )
        for group, places in enumerate(question_rows.groups(more)):
            groups[i, group, places.start : places.stop] = 1 / max(len(places), 1)
        if question.spans:
            first, last = question.spans[0]
            found = slice(first // settings.interval_tokens, -(-last // settings.interval_tokens))
            gold[i, found] = 1 / (found.stop - found.start)
    return QuestionBatch(
        ids=torch.from_numpy(ids).unflatten(2, (windows, window)),
        tokens=tokens,
        owner=torch.tensor(owner),
        rows=torch.from_numpy(rows),
        row_lengths=torch.from_numpy(lengths),
        groups=torch.from_numpy(groups),
        targets=torch.from_numpy(targets),
        gold=torch.from_numpy(gold),
        exact=torch.tensor([question.exact for question in questions]),
        forced=torch.ones(len(asked), dtype=torch.bool),
        asked_rows=asked_rows,
        refill_tokens=refill_tokens,
        question_landmarks=more,
    )
