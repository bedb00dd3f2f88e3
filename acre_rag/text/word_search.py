"""Rank pieces of text by the words of a question (BM25)."""

import logging
import os
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from acre_rag.errors import ConfigError

Rank = Callable[[Sequence[str]], NDArray[np.float64]]
"""Scores every chunk for every question, (questions, chunks)."""


def bm25_index(chunks: Sequence[str]) -> Rank:
    """Index chunks by their words.

    Raises:
        ConfigError: The library for it is not installed.
    """
    # bm25s calls JAX where that is installed, and JAX takes three quarters of a GPU's memory at its
    # first call, unless it is told otherwise.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    try:
        import bm25s
    except ImportError as error:
        raise ConfigError(
            "word search found no bm25s; expected the evaluate extra: run "
            "pip install 'acre-rag[evaluate]', or leave out what needs it (rag-bm25)"
        ) from error
    logging.getLogger("bm25s").setLevel(logging.WARNING)  # it tells every step
    words = bm25s.tokenize(list(chunks), return_ids=False, show_progress=False)
    index = bm25s.BM25()
    if any(words):
        index.index(words, show_progress=False)

    def rank(questions: Sequence[str]) -> NDArray[np.float64]:
        asked = bm25s.tokenize(list(questions), return_ids=False, show_progress=False)
        return np.stack(
            [
                np.asarray(index.get_scores(own), dtype=np.float64)
                if own and any(words)
                else np.zeros(len(chunks))
                for own in asked
            ]
        )

    return rank
