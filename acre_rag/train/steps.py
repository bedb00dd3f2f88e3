"""The loss of one step of each stage."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from acre_rag.config import MOST_LANDMARKS
from acre_rag.model.local import LocalModel
from acre_rag.model.training_passes import Layers
from acre_rag.model.training_twin import LayeredReading, TrainingTwin
from acre_rag.train.bank import (
    Bank,
    choose_intervals,
    keep_landmarks,
    landmark_places,
    refilled_places,
    window_bank,
)
from acre_rag.train.batches import QuestionBatch
from acre_rag.train.losses import answer_loss, distillation_loss, selection_loss
from acre_rag.train.scoring import batch_scores
from acre_rag.train.texts import TextBatch


@dataclass(frozen=True, slots=True)
class StepLoss:
    """Loss of a step, and its parts for the progress line."""

    total: Tensor
    parts: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores of a batch of questions, with the bank to refill from.

    Attributes:
        bank: Keys and values of all contexts.
        scores: (questions, intervals), float32.
    """

    bank: Bank
    scores: Tensor


class Trainer:
    """Computes losses with a frozen model and its training twin.

    Args:
        local: The frozen model; it is the teacher as well.
        twin: Reads with the adapter that is trained.
        prefix_ids: Token ids before the documents, (prefix,).
        interval_tokens: Raw tokens that one landmark stands for.
        most_landmarks: Landmarks that stay in a refilled memory beside those of what is refilled.
        compiled: Compile the loss over the whole vocabulary.
    """

    def __init__(
        self,
        local: LocalModel,
        twin: TrainingTwin,
        prefix_ids: Tensor,
        interval_tokens: int,
        *,
        most_landmarks: int = MOST_LANDMARKS,
        compiled: bool = False,
    ) -> None:
        self.model = local.model
        self.twin = twin
        self.prefix_ids = prefix_ids
        self.interval_tokens = interval_tokens
        self.most_landmarks = most_landmarks
        self._distillation_loss: Callable[[Tensor, Tensor], Tensor] = (
            torch.compile(distillation_loss, dynamic=True) if compiled else distillation_loss
        )
        self._head: Callable[[Tensor], Tensor] = local.model.get_output_embeddings()

    def text_loss(self, batch: TextBatch, *, next_token: bool = False) -> StepLoss:
        """Distil the model's own full attention, or predict the next token."""
        windows = batch.ids.shape[1]
        reading = self.twin.read_windows(batch.ids, self.interval_tokens)
        student = self.token_states(reading, windows).gather(
            1, batch.positions[:, :, None].expand(-1, -1, reading.states.shape[2])
        )
        logits = self._head(student.flatten(0, 1))
        ids = batch.ids.flatten(1)
        if next_token:
            nexts = ids.gather(1, (batch.positions + 1).clamp(max=ids.shape[1] - 1))
            loss = answer_loss(logits, nexts.flatten())
        else:
            loss = self._distillation_loss(logits, self._teacher_logits(ids, batch.positions))
        return StepLoss(loss, {"text": loss.detach()})

    def question_loss(
        self, batch: QuestionBatch, selection: Tensor, *, selection_weight: float
    ) -> StepLoss:
        """Answer over refilled memories, and point at the gold evidence."""
        scored = self.score(batch, selection)
        count = batch.refill_tokens // self.interval_tokens
        chosen = choose_intervals(scored.scores, batch.gold, batch.forced, count)
        kept = keep_landmarks(scored.scores, chosen, self.most_landmarks)
        states = self.refilled_states(scored.bank, batch, chosen, kept)
        width = batch.targets.shape[1]
        places = batch.row_lengths[:, None] - 1 + torch.arange(width, device=states.device)
        places = places.clamp(max=states.shape[1] - 1)
        answers = states.gather(1, places[:, :, None].expand(-1, -1, states.shape[2]))
        answered = answer_loss(self._head(answers.flatten(0, 1)), batch.targets.flatten())
        pointed = selection_loss(scored.scores, batch.gold, batch.exact)
        hit = recalled(chosen, batch.gold)
        parts = {"answer": answered.detach(), "selection": pointed.detach(), "recall": hit}
        return StepLoss(answered + selection_weight * pointed, parts)

    def score(self, batch: QuestionBatch, selection: Tensor) -> Scored:
        """Read the documents, then score their intervals for every question."""
        bank = self.read_bank(batch)
        queries, keys = self.landmark_queries(bank, batch)
        scaling = self.twin.shape.scaling
        groups = batch.groups[:, :, : queries[0].shape[2]]
        return Scored(bank, batch_scores(queries, keys, groups, selection, scaling))

    def read_bank(self, batch: QuestionBatch) -> Bank:
        """Read the documents of all contexts."""
        contexts, documents, windows, tokens = batch.ids.shape
        reading = self.twin.read_windows(batch.ids.flatten(0, 1), self.interval_tokens)
        shape = (contexts, documents, windows, tokens)
        return window_bank(self.twin, reading, shape, batch.tokens, self.interval_tokens)

    def landmark_queries(self, bank: Bank, batch: QuestionBatch) -> tuple[Layers, Layers]:
        """Run the questions over prefix and landmarks: queries, and landmark keys, un-rotated."""
        rows = bank.rows_of(batch.owner, landmark_places(bank.places))
        prefix = len(bank.places.prefix)
        keys: list[Tensor] = []

        def memory(layer: int) -> tuple[Tensor, Tensor]:
            found = bank.gather(layer, rows)
            keys.append(found[0][:, :, prefix:])
            return found

        ids = batch.rows[:, : batch.asked_rows]
        landmarks = batch.landmark_rows(ids.shape[1])
        asked = self.twin.read_rows(ids, rows.shape[1], memory, landmarks)
        return asked.queries, keys

    def refilled_states(
        self, bank: Bank, batch: QuestionBatch, chosen: Tensor, kept: Tensor
    ) -> Tensor:
        """Read questions and answers over refilled memories: states (questions, rows, hidden)."""
        rows = bank.rows_of(batch.owner, refilled_places(bank.places, chosen, kept))
        landmarks = batch.landmark_rows(batch.rows.shape[1])
        read = self.twin.read_rows(
            batch.rows, rows.shape[1], lambda layer: bank.gather(layer, rows), landmarks
        )
        return read.states

    def logits(self, states: Tensor) -> Tensor:
        """Predict next tokens from last hidden states."""
        return self._head(states)

    def _teacher_logits(self, ids: Tensor, positions: Tensor) -> Tensor:
        with torch.no_grad():
            prefix = self.prefix_ids.expand(len(ids), -1)
            states = self.twin.read_plain(torch.cat([prefix, ids], dim=1))
            places = (positions + prefix.shape[1])[:, :, None].expand(-1, -1, states.shape[2])
            return self._head(states.gather(1, places).flatten(0, 1))

    def token_states(self, reading: LayeredReading, windows: int) -> Tensor:
        """Leave out the landmarks: states of raw tokens, (documents, tokens, hidden)."""
        rows, interval = reading.states.shape[1], self.interval_tokens
        tokens = torch.arange(rows - rows // (interval + 1), device=reading.states.device)
        raw = tokens + tokens // interval
        states: Tensor = reading.states.index_select(1, raw).unflatten(0, (-1, windows))
        return states.flatten(1, 2)


def recalled(chosen: Tensor, gold: Tensor) -> Tensor:
    """Share of the questions with evidence whose gold intervals were all chosen."""
    taken = torch.zeros_like(gold).scatter(1, chosen, 1.0)
    missed = ((gold > 0) & (taken == 0)).any(dim=1)
    answered = gold.sum(dim=1) > 0
    return ((~missed) & answered).sum() / answered.sum().clamp(min=1)
