"""The named alternatives: full prefill, a full cache from disk, and chunks of text."""

from dataclasses import dataclass
from pathlib import Path

from acre_rag.bench.scene import Subject
from acre_rag.engine import ACREEngine
from acre_rag.errors import ConfigError
from acre_rag.model.stock import (
    generate_plainly,
    load_plainly,
    prefill_plainly,
    save_plainly,
)
from acre_rag.text.word_search import Rank, bm25_index

_CHUNK_TOKENS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class FullPrefill:
    """Reads the whole document for each question."""

    engine: ACREEngine
    subject: Subject

    def first_token(self) -> None:
        """Answer one question up to its first token."""
        rows = self.engine.reader.frame.question_rows(next(self.subject.questions))
        ids = [*self.subject.prompt_ids, *rows.ids]
        generate_plainly(self.engine.reader.local, ids, None, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class FullCache:
    """Keeps all keys and values of the document in one file, as prefix caches do.

    Attributes:
        engine: Whose model and prompt are used.
        subject: The document.
        path: The file.
        bytes: Its size.
    """

    engine: ACREEngine
    subject: Subject
    path: Path
    bytes: int

    @staticmethod
    def saved(engine: ACREEngine, subject: Subject, folder: Path) -> "FullCache":
        """Read the document plainly, and keep what the model saw."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"full-{len(subject.ids)}.safetensors"
        local, chunk = engine.reader.local, engine.config.window_tokens
        size = save_plainly(prefill_plainly(local, subject.prompt_ids, chunk), path)
        return FullCache(engine=engine, subject=subject, path=path, bytes=size)

    def first_token(self) -> None:
        """Answer one question up to its first token."""
        rows = self.engine.reader.frame.question_rows(next(self.subject.questions))
        local = self.engine.reader.local
        generate_plainly(local, rows.ids, load_plainly(local, self.path), 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunksOfText:
    """Reads chunks of the text, which word search finds, for each question.

    Attributes:
        engine: Whose model and prompt are used.
        subject: The document.
        rank: Scores its chunks.
        budget: Tokens that are read.
    """

    engine: ACREEngine
    subject: Subject
    rank: Rank
    budget: int

    @staticmethod
    def indexed(engine: ACREEngine, subject: Subject, budget: int) -> "ChunksOfText":
        """Index the chunks of a document.

        Raises:
            ConfigError: The library for word search is not installed, or no chunk fits.
        """
        if budget < _CHUNK_TOKENS:
            raise ConfigError(
                f"{budget} tokens were refilled; expected {_CHUNK_TOKENS}, a chunk, or more to "
                "compare with text: measure a longer document"
            )
        _, places = engine.reader.frame.encode_with_offsets(subject.text)
        starts = range(0, len(places), _CHUNK_TOKENS)
        chunks = [
            subject.text[places[s][0] : places[min(s + _CHUNK_TOKENS, len(places)) - 1][1]]
            for s in starts
        ]
        return ChunksOfText(engine=engine, subject=subject, rank=bm25_index(chunks), budget=budget)

    def first_token(self) -> None:
        """Answer one question up to its first token."""
        question = next(self.subject.questions)
        rows = self.engine.reader.frame.question_rows(question)
        (scores,) = self.rank([question])
        best = sorted((-scores).argsort(kind="stable")[: self.budget // _CHUNK_TOKENS].tolist())
        ids = list(self.subject.prefix_ids)
        for chunk in best:
            ids += self.subject.ids[chunk * _CHUNK_TOKENS : (chunk + 1) * _CHUNK_TOKENS]
        generate_plainly(self.engine.reader.local, [*ids, *rows.ids], None, 1)
