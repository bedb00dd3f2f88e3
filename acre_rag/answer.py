"""What a question gives back: an answer, where it looked, and what that cost."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from acre_rag.config import Plan
from acre_rag.refill_map import RefillMap
from acre_rag.refill_picture import draw
from acre_rag.text.document import is_passage


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A maximal run of chosen intervals: `document.text[start:end] == text`.

    Attributes:
        document: Id of the document.
        start: First character.
        end: Character after the last.
        text: The characters between.
        score: Attention that its landmarks got, or its share of the tokens where the whole text was
            prefilled; over everything asked, scores add up to 1.
    """

    document: str
    start: int
    end: int
    text: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a question cost.

    Attributes:
        document_tokens: Tokens of the documents asked.
        landmarks: Landmarks in the refilled cache.
        refilled_tokens: Raw tokens in the refilled cache.
        encoded_tokens: Document tokens run through the model for this question, be it to refill or
            to prefill; 0 on a hit.
        recomputed_tokens: Those of them that a damaged or missing value forced.
        bytes_read: Bytes read from the store.
    """

    document_tokens: int
    landmarks: int
    refilled_tokens: int
    encoded_tokens: int
    recomputed_tokens: int
    bytes_read: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Seconds:
    """How long a question took, the model being loaded.

    Attributes:
        load: Manifests and landmarks from the store.
        select: The question over L1, scores and selection.
        fetch: Chosen L2 from the store.
        first_token: From the question to the answer's first token, all of the above included.
        total: From the question to the answer's end.
    """

    load: float
    select: float
    fetch: float
    first_token: float
    total: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """Where a question would look.

    Attributes:
        sources: Runs of chosen intervals, in document order.
        usage: What finding them cost.
        seconds: How long it took.
        refill_map: What every interval of the documents scored; notebooks draw it.
    """

    sources: tuple[Source, ...]
    usage: Usage
    seconds: Seconds
    refill_map: RefillMap = field(repr=False)

    def _repr_html_(self) -> str:
        """Show in a notebook where the question would look."""
        notes = (
            _kept(self.usage),
            f"{self.usage.refilled_tokens:,} would be refilled",
            f"found in {self.seconds.total:.2f} s",
        )
        return draw(self.refill_map, self.sources, title=None, notes=notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A local model's answer, from a refilled cache or from the whole text.

    Attributes:
        text: The answer.
        sources: What was refilled for it, in document order; with the plan `prefill`, the
            documents as a whole.
        usage: What it cost.
        seconds: How long it took.
        refill_map: What every interval of the documents scored; notebooks draw it.
        plan: How it came about: `refill`, `recompute` or `prefill`.
    """

    text: str
    sources: tuple[Source, ...]
    usage: Usage
    seconds: Seconds
    refill_map: RefillMap = field(repr=False)
    plan: Plan = "refill"

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        """Show in a notebook what the model looked at."""
        seen: tuple[str, ...] = (
            _kept(self.usage),
            f"{self.usage.refilled_tokens:,} refilled",
        )
        if self.plan == "prefill":
            seen = ("the whole text, prefilled",)
        notes = (
            *seen,
            f"{self.usage.encoded_tokens:,} read anew",
            f"first token after {self.seconds.first_token:.2f} s",
        )
        return draw(self.refill_map, self.sources, title=self.text, notes=notes)

    def to_dict(self) -> Mapping[str, object]:
        """Turn into plain values, as `acre ask --json` prints them."""
        return {
            "answer": self.text,
            "sources": [asdict(source) for source in self.sources],
            "usage": asdict(self.usage),
            "seconds": asdict(self.seconds),
            "plan": self.plan,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDocument:
    """A document that a store holds.

    Attributes:
        id: Its id.
        version: Digest of its text, and of everything else that its cache depends on.
        content_id: Names its text alone: the id of a passage of that text.
        tokens: Raw tokens.
        landmarks: Landmarks, one an interval.
        bytes: Size of its cache in the store.
        metadata: What came with it.
        created: When its cache was made, ISO 8601, UTC.
        method: `landmarks`, or `training-free`.
    """

    id: str
    version: str
    content_id: str
    tokens: int
    landmarks: int
    bytes: int
    metadata: Mapping[str, object]
    created: str
    method: str

    @property
    def is_passage(self) -> bool:
        """Whether it is named by its content alone; see `Document.passage`."""
        return is_passage(self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingested:
    """What became of a document that was handed over.

    Attributes:
        id: Its id.
        tokens: Raw tokens.
        encoded_tokens: Tokens run through the model: 0 where it was stored already, fewer than
            `tokens` where an interrupted run was picked up.
        seconds: How long it took.
    """

    id: str
    tokens: int
    encoded_tokens: int
    seconds: float


def _kept(usage: Usage) -> str:
    return f"{usage.document_tokens:,} tokens, {usage.landmarks:,} of their landmarks kept"
