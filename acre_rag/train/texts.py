"""One step's batch of running text."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from acre_rag.train.packs import Ragged


@dataclass(frozen=True, slots=True)
class TextBatch:
    """Windows of running text.

    Attributes:
        ids: (documents, windows, window tokens).
        positions: Tokens to take the loss of, rising, (documents, positions).
    """

    ids: Tensor
    positions: Tensor

    def to(self, device: torch.device) -> "TextBatch":
        """Move the tensors to a device."""
        return TextBatch(self.ids.to(device), self.positions.to(device))


class TextSteps(Dataset[TextBatch]):
    """Batches of running text by step: the same seed and step give the same batch.

    Args:
        texts: Tokenized texts; a text is drawn as often as its length says.
        documents: Documents of a batch.
        windows: Windows of a document, with how many documents' worth of each is drawn.
        window_tokens: Raw tokens of a window.
        share: Share of the positions from the second window on to take the loss of.
        seed: Of the draws.
    """

    def __init__(
        self,
        texts: Ragged,
        *,
        documents: int,
        windows: Mapping[int, float],
        window_tokens: int,
        share: float,
        seed: int,
    ) -> None:
        self._texts = texts
        self._documents = documents
        self._windows = windows
        self._window_tokens = window_tokens
        self._share = share
        self._seed = seed

    def __getitem__(self, step: int) -> TextBatch:
        rng = np.random.default_rng([self._seed, step])
        weights = np.asarray(list(self._windows.values()))
        windows = list(self._windows)[rng.choice(len(weights), p=weights / weights.sum())]
        tokens = windows * self._window_tokens
        # Batches of longer documents hold fewer of them: the tokens of a step stay the same.
        documents = max(self._documents * min(self._windows) // windows, 1)
        values = self._texts.values
        # A document may run from one short text into the next, as documents of a library do.
        starts = rng.integers(len(values) - tokens + 1, size=documents)
        ids = np.stack([values[start : start + tokens].astype(np.int64) for start in starts])
        later = tokens - self._window_tokens
        count = max(int(later * self._share), 1)
        positions = np.stack(
            [np.sort(rng.choice(later, count, replace=False)) for _ in range(documents)]
        )
        return TextBatch(
            torch.from_numpy(ids).unflatten(1, (windows, self._window_tokens)),
            torch.from_numpy(positions + self._window_tokens),
        )
