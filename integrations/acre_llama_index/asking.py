"""One question to an engine: which documents, which settings, which nodes come back."""

from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass

from llama_index.core.schema import NodeWithScore

from acre_llama_index.candidates import Candidates
from acre_llama_index.nodes import source_nodes
from acre_rag import ACREEngine, AnswerStream, AsyncText, RefillTokens, Retrieval


@dataclass(frozen=True, slots=True, kw_only=True)
class AskSettings:
    """What holds for every question of an adapter.

    Attributes:
        refill_tokens: Most raw tokens to refill, or `auto`; `None` leaves it to the engine.
        max_new_tokens: Longest answer.
        instructions: Replaces the prompt's own.
    """

    refill_tokens: RefillTokens = None
    max_new_tokens: int = 64
    instructions: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """A question whose sources are known and whose answer is to be generated.

    Attributes:
        stream: The answer's text, as it comes.
        nodes: What was refilled, the best-scoring first.
        encoded_tokens: Tokens run through the model to store what was not.
    """

    stream: AnswerStream
    nodes: list[NodeWithScore]
    encoded_tokens: int

    def usage(self) -> dict[str, int]:
        """Sum up what the question costs; known before the first word."""
        usage: dict[str, int] = asdict(self.stream.usage)
        return usage | {"encoded_tokens": usage["encoded_tokens"] + self.encoded_tokens}

    def model_tokens(self) -> dict[str, int]:
        """Count what the model attends to and what it has said, as token counters name them."""
        usage, stream = self.stream.usage, self.stream
        return {
            "prompt_tokens": stream.prompt_tokens + usage.landmarks + usage.refilled_tokens,
            "completion_tokens": stream.new_tokens,
        }


def ask(
    engine: ACREEngine, question: str, candidates: Candidates, settings: AskSettings
) -> Asking | None:
    """Ask the documents that a question may look into; `None` where there are none."""
    if candidates.documents == []:
        return None
    stream = engine.stream(
        question,
        candidates.documents,
        settings.refill_tokens,
        settings.max_new_tokens,
        settings.instructions,
    )
    return Asking(
        stream=stream,
        nodes=source_nodes(stream.sources, candidates.metadata, candidates.find_node),
        encoded_tokens=candidates.encoded_tokens,
    )


def retrieve(
    engine: ACREEngine,
    question: str,
    candidates: Candidates,
    *,
    refill_tokens: RefillTokens,
    sources: int | None,
) -> tuple[list[NodeWithScore], Retrieval | None]:
    """Find where a question would look; no nodes where there are no documents."""
    if candidates.documents == []:
        return [], None
    retrieval = engine.retrieve(question, candidates.documents, refill_tokens, sources=sources)
    return source_nodes(retrieval.sources, candidates.metadata, candidates.find_node), retrieval


def begin(engine: ACREEngine, ask_now: Callable[[], Asking | None]) -> AsyncText[Asking | None]:
    """Ask in the engine's worker, which then generates the answer."""

    def start() -> tuple[Asking | None, AnswerStream | Generator[str, None, None]]:
        asking = ask_now()
        return asking, asking.stream if asking is not None else _nothing()

    return engine.worker.begin(start)


def _nothing() -> Generator[str, None, None]:
    yield from ()
