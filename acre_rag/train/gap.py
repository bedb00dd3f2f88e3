"""How much of what earlier windows tell a model its landmarks pass on."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from acre_rag.train.packs import Ids
from acre_rag.train.steps import Trainer


def language_gap(trainer: Trainer, documents: Tensor) -> dict[str, float]:
    """Compare cross-entropies from the second window on.

    Args:
        trainer: Reads.
        documents: (documents, windows, window tokens).

    Returns:
        Cross-entropy with full attention (`full`), with each window alone (`none`), through
        landmarks (`landmarks`), and the share of the gap that landmarks close (`closed`).
    """
    totals = torch.zeros(3, dtype=torch.float64)
    for ids in documents.split(4):
        totals += torch.stack([_full(trainer, ids), _none(trainer, ids), _landmarks(trainer, ids)])
    full, none, landmarks = (totals / len(documents)).tolist()
    closed = (none - landmarks) / max(none - full, 1e-9)
    return {"full": full, "none": none, "landmarks": landmarks, "closed": closed}


def _full(trainer: Trainer, ids: Tensor) -> Tensor:
    prefix = trainer.prefix_ids
    whole = torch.cat([prefix.expand(len(ids), -1), ids.flatten(1)], dim=1)
    states = trainer.model.model(input_ids=whole, use_cache=False).last_hidden_state
    return _entropy(trainer, states[:, len(prefix) :].unflatten(1, ids.shape[1:]), ids)


def _none(trainer: Trainer, ids: Tensor) -> Tensor:
    prefix = trainer.prefix_ids
    windows = ids.flatten(0, 1)
    whole = torch.cat([prefix.expand(len(windows), -1), windows], dim=1)
    states = trainer.model.model(input_ids=whole, use_cache=False).last_hidden_state
    return _entropy(trainer, states[:, len(prefix) :].unflatten(0, ids.shape[:2]), ids)


def _landmarks(trainer: Trainer, ids: Tensor) -> Tensor:
    reading = trainer.twin.read_windows(ids, trainer.interval_tokens)
    states = trainer.token_states(reading, ids.shape[1]).unflatten(1, ids.shape[1:])
    return _entropy(trainer, states, ids)


def _entropy(trainer: Trainer, states: Tensor, ids: Tensor) -> Tensor:
    """Sum of the documents' mean cross-entropies; a window's last token predicts nothing."""
    total = torch.zeros((), dtype=torch.float64)
    for document, tokens in zip(states[:, 1:, :-1], ids[:, 1:, 1:], strict=True):
        logits = trainer.logits(document.flatten(0, 1)).float()
        total += torch.nn.functional.cross_entropy(logits, tokens.flatten()).double().cpu()
    return total


def windows_of(values: Sequence[Ids], windows: int, tokens: int) -> Iterator[Tensor]:
    """Cut the start of each text to windows: (windows, window tokens)."""
    for ids in values:
        if len(ids) >= windows * tokens:
            yield torch.from_numpy(ids[: windows * tokens].copy()).unflatten(0, (windows, tokens))
