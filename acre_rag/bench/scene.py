"""What a measurement is made with: a model, its adapter, sizes, and room on disk."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from acre_rag.bench.made_text import QUESTIONS, made_text
from acre_rag.config import ACREConfig
from acre_rag.engine import ACREEngine
from acre_rag.errors import ConfigError
from acre_rag.model.landmarks import LandmarkAdapter
from acre_rag.model.local import LocalModel
from acre_rag.model.prompt import QuestionRows
from acre_rag.text.document import Document


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured.

    Attributes:
        tokens: Lengths of the documents that are asked.
        rounds: Rounds that count; one more warms up.
        longest: Longest document of the growth curves.
        documents: Most documents that are asked at once.
        new_tokens: Longest answer where decoding is measured.
        askers: Threads that ask at the same time.
        seconds: How long they do.
    """

    tokens: tuple[int, ...] = (4000, 8000)
    rounds: int = 3
    longest: int = 32000
    documents: int = 200
    new_tokens: int = 64
    askers: int = 8
    seconds: float = 300.0

    def __post_init__(self) -> None:
        for name, least in (
            *(("rounds", 1), ("longest", 1), ("documents", 1), ("askers", 1)),
            *(("new_tokens", 3), ("seconds", 0)),
        ):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"{name} is {getattr(self, name)}; expected {least} or more: raise it"
                )
        if not self.tokens or min(self.tokens) < 1:
            raise ConfigError(f"tokens is {self.tokens}; expected lengths of 1 or more: raise them")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What every part measures with.

    Attributes:
        local: The model.
        adapter: Its landmark adapter; `"none"` for the training-free mode, `None` for the
            one that ships.
        config: Settings of every engine.
        sizes: How much is measured.
        folder: Room for stores and caches.
        redis: URL of a server; `None` where there is none.
        say: Told what is going on.
    """

    local: LocalModel
    adapter: LandmarkAdapter | str | None
    config: ACREConfig
    sizes: Sizes
    folder: Path
    redis: str | None = None
    say: Callable[[str], None] = lambda _: None

    def engine(self, store: Path | str) -> ACREEngine:
        """Open an engine over a store."""
        return ACREEngine(self.local, self.adapter, store, self.config)

    @contextmanager
    def opened(self, store: Path | str) -> Iterator[ACREEngine]:
        """Open an engine over a store, until the context ends."""
        with closing(self.engine(store)) as engine:
            yield engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One document that is asked.

    Attributes:
        id: Its id.
        text: All of it.
        ids: Its token ids.
        prefix_ids: What stands before it in every prompt.
        questions: What it is asked, for ever in turn.
    """

    id: str
    text: str
    ids: list[int]
    prefix_ids: list[int]
    questions: Iterator[str]

    @staticmethod
    def made(engine: ACREEngine, tokens: int, document_id: str = "document") -> "Subject":
        """Make a document of exactly so many tokens; it is not stored yet."""
        frame = engine.reader.frame
        text = made_text(frame, tokens)
        return Subject(
            id=document_id,
            text=text,
            ids=frame.encode_with_offsets(text)[0],
            prefix_ids=frame.prefix_ids,
            questions=cycle(QUESTIONS),
        )

    @property
    def document(self) -> Document:
        """What is ingested."""
        return Document(id=self.id, text=self.text)

    @property
    def prompt_ids(self) -> list[int]:
        """The document and what stands before it."""
        return [*self.prefix_ids, *self.ids]


def fits(engine: ACREEngine, tokens: int, rows: QuestionRows) -> bool:
    """Tell whether a document of so many tokens and a question fit the context in full."""
    return engine.reader.prefix.tokens + tokens + len(rows.ids) + 1 <= engine.context_tokens


def forget_pages(place: Path) -> None:
    """Have the system read a file, or a folder's files, from the disk next time, as far as it can.

    A system without such a call keeps what it has.
    """
    if not hasattr(os, "posix_fadvise"):
        return
    for path in [place] if place.is_file() else [p for p in place.rglob("*") if p.is_file()]:
        with path.open("rb") as file:
            os.fsync(file.fileno())  # pages that are not written yet would stay
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
