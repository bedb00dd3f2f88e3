"""All methods by name, and the readers that they share."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from acre_rag.config import ACREConfig
from acre_rag.errors import ConfigError
from acre_rag.evaluate.plain import FullText, SnapKV
from acre_rag.evaluate.prompts import Method
from acre_rag.evaluate.refilling import Refilling, gold_first, learned, published
from acre_rag.evaluate.retrieval import CHUNK_TOKENS, Retrieval, dense_index
from acre_rag.model.landmarks import LandmarkAdapter
from acre_rag.model.local import LocalModel
from acre_rag.model.reader import DocumentReader
from acre_rag.model.sentences import SentenceEncoder
from acre_rag.text.word_search import bm25_index

METHODS = (
    "acre",
    "acre-published",
    "acre-training-free",
    "landmarks-only",
    "full",
    "snapkv",
    "rag-bm25",
    "rag-dense",
    "oracle",
)
WITH_ADAPTER = ("acre", "acre-published", "landmarks-only")


@dataclass(frozen=True, slots=True, kw_only=True)
class Readers:
    """Readers over one frozen model.

    Attributes:
        free: Reads in the training-free mode, and plainly.
        trained: Reads with landmarks; `None` where there is no adapter.
    """

    free: DocumentReader
    trained: DocumentReader | None

    @staticmethod
    def over(local: LocalModel, adapter: LandmarkAdapter | None, config: ACREConfig) -> "Readers":
        """Make readers of a model."""
        trained = DocumentReader(local, adapter, config) if adapter is not None else None
        return Readers(free=DocumentReader(local, None, config), trained=trained)


def make_methods(
    names: Sequence[str],
    readers: Readers,
    *,
    chunk_tokens: int = CHUNK_TOKENS,
    sentence_model: Path | None = None,
) -> list[Method]:
    """Make methods by name, each once, in the order given.

    Raises:
        ConfigError: There is no such method, or it needs an adapter and there is none.
        ModelError: The sentence model is missing.
    """
    made: list[Method] = []
    for name in dict.fromkeys(names):
        if name not in METHODS:
            raise ConfigError(
                f"method is {name!r}; expected one of {', '.join(METHODS)}: choose among them"
            )
        if name in WITH_ADAPTER and readers.trained is None:
            raise ConfigError(
                f"{name} needs a landmark adapter, and {readers.free.local.name} has none; "
                "expected one: name it, or choose acre-training-free"
            )
        made.append(_make(name, readers, chunk_tokens, sentence_model))
    if not made:
        raise ConfigError("found no method; expected one or more: name one")
    return made


def _make(name: str, readers: Readers, chunk_tokens: int, sentence_model: Path | None) -> Method:
    if name == "rag-dense":
        encoder = SentenceEncoder.load(sentence_model, readers.free.local.device)
        return Retrieval(name, dense_index(encoder), chunk_tokens)
    made: dict[str, Method] = {
        "acre": Refilling(name=name, rule=learned),
        "acre-published": Refilling(name=name, rule=published),
        "acre-training-free": Refilling(name=name, rule=learned, trained=False),
        "landmarks-only": Refilling(name=name, rule=learned, budgeted=False),
        "oracle": Refilling(name=name, rule=gold_first, trained=readers.trained is not None),
        "full": FullText(),
        "snapkv": SnapKV(),
        "rag-bm25": Retrieval(name, bm25_index, chunk_tokens),
    }
    return made[name]
