"""Baselines whose generator was tuned on the data that landmarks are trained on."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from acre_rag.errors import AdapterError
from acre_rag.evaluate.documents import OpenDocument
from acre_rag.evaluate.plain import FullText
from acre_rag.evaluate.prompts import Budget, Method, Prompt
from acre_rag.evaluate.retrieval import Retrieval
from acre_rag.model.local import LocalModel
from acre_rag.model.lora import load_tuned
from acre_rag.model.reader import DocumentReader
from acre_rag.text.word_search import bm25_index


@dataclass(slots=True, kw_only=True)
class Tuned:
    """A method whose prompts another model reads and answers.

    Attributes:
        name: Name of the method.
        method: What it shows that model.
        reader: Reads with that model.
    """

    name: str
    method: Method
    reader: DocumentReader
    finds_budget: bool = False
    _of: OpenDocument | None = field(default=None, init=False)
    _opened: OpenDocument | None = field(default=None, init=False)

    @property
    def budgeted(self) -> bool:
        """Whether the budget makes a difference."""
        return self.method.budgeted

    def prompts(self, opened: OpenDocument, budget: Budget) -> list[Prompt | None]:
        """Make a prompt for each question."""
        if self._of is not opened or self._opened is None:
            self._of = opened
            self._opened = OpenDocument(
                opened.document,
                free=self.reader,
                trained=None,
                max_new_tokens=opened.max_new_tokens,
                instructions=opened.instructions,
            )
        found = self.method.prompts(self._opened, budget)
        local = self.reader.local
        return [None if one is None else replace(one, answered_by=local) for one in found]


def load_baselines(
    directories: Sequence[Path], local: LocalModel, reader: DocumentReader, chunk_tokens: int
) -> list[Tuned]:
    """Load what `acre train baseline` wrote.

    Args:
        directories: Each holds one tuned generator.
        local: The frozen model; each baseline gets a copy of its own.
        reader: Reads with the frozen model; its settings are taken.
        chunk_tokens: Tokens of a chunk.

    Raises:
        AdapterError: A directory holds none, or one for another model.
        ConfigError: The library for it is not installed.
    """
    return [_load(directory, local, reader, chunk_tokens) for directory in directories]


def _load(directory: Path, local: LocalModel, reader: DocumentReader, chunk_tokens: int) -> Tuned:
    try:
        way = json.loads((directory / "acre_baseline.json").read_text(encoding="utf-8"))["way"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AdapterError(
            f"{directory} has no acre_baseline.json that can be read ({error}); expected what "
            "acre train baseline wrote: check the path"
        ) from error
    tuned = DocumentReader(load_tuned(local, directory), None, reader.config)
    shows: Method = FullText()
    if way == "rag":
        shows = Retrieval("rag-bm25", bm25_index, chunk_tokens)
    return Tuned(name=f"{way}+sft", method=shows, reader=tuned)
