"""A graph that answers from documents: route, retrieve, refill and answer, check, fall back.

Run it with `python examples/langgraph_answer.py`; it reads examples/documents on first use.
"""

import re
from pathlib import Path
from typing import Any, Literal, TypedDict

from langchain_core.documents import Document as Place
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from acre_langchain import ACREAnswerChain, ACRERetriever, ChatACRE
from acre_rag import ACREEngine, Document

DOCUMENTS = Path(__file__).parent / "documents"
NOT_FOUND = "The documents do not say."


class State(TypedDict, total=False):
    """What the graph knows of one question; a checkpointer keeps it for the thread."""

    question: str
    places: list[Place]
    answer: str
    usage: dict[str, Any]


def make_graph(
    engine: ACREEngine, checkpointer: BaseCheckpointSaver[Any] | None = None
) -> CompiledStateGraph[State, None, State, State]:
    """Put the graph together over one engine.

    Stream it with `stream_mode="messages"` for tokens, `"custom"` for what each answer cost.
    """
    retriever = ACRERetriever(engine=engine, k=4)
    chat = ChatACRE(engine=engine, max_tokens=32)

    def route(state: State) -> Literal["talk", "retrieve"]:
        return "retrieve" if state["question"].rstrip().endswith("?") else "talk"

    def talk(state: State) -> State:
        return State(answer=chat.invoke(state["question"]).text, places=[], usage={})

    def retrieve(state: State) -> State:
        return State(places=retriever.invoke(state["question"]))

    def answer(state: State) -> State:
        # One document, its cache refilled where the question looks.
        names = sorted({place.metadata["document_id"] for place in state["places"][:1]})
        return said(ACREAnswerChain(engine=engine, documents=names), state["question"])

    def check(state: State) -> Literal["fall_back", "end"]:
        return "end" if is_grounded(state["answer"], state["places"]) else "fall_back"

    def fall_back(state: State) -> State:
        wider = said(ACREAnswerChain(engine=engine), state["question"])
        if not is_grounded(wider["answer"], wider["places"]):
            wider["answer"] = NOT_FOUND
        return wider

    graph = StateGraph(State)
    for node in (talk, retrieve, answer, fall_back):
        graph.add_node(node.__name__, node)
    graph.add_conditional_edges(START, route)
    graph.add_edge("retrieve", "answer")
    graph.add_conditional_edges("answer", check, {"end": END, "fall_back": "fall_back"})
    for last in ("talk", "fall_back"):
        graph.add_edge(last, END)
    return graph.compile(checkpointer=checkpointer)


def said(chain: ACREAnswerChain, question: str) -> State:
    """Ask a chain from within a node, and tell the stream what it cost."""
    out = chain.invoke(question)
    get_stream_writer()(
        {"refilled": out["usage"]["refilled_tokens"], "places": len(out["context"])}
    )
    return State(places=out["context"], answer=out["answer"], usage=out["usage"])


def is_grounded(answer: str, places: list[Place]) -> bool:
    """Tell whether each word and number of an answer is in what was refilled."""
    known = set(re.findall(r"\w+", " ".join(place.page_content for place in places).lower()))
    words = re.findall(r"\w+", answer.lower())
    return bool(words) and known.issuperset(words)


def main() -> None:
    """Read the example documents, and ask one question."""
    engine = ACREEngine()
    engine.ingest(
        Document(id=path.name, text=path.read_text(encoding="utf-8"))
        for path in sorted(DOCUMENTS.iterdir())
        if path.suffix in {".md", ".txt"}
    )
    graph = make_graph(engine, InMemorySaver())
    thread = RunnableConfig(configurable={"thread_id": "1"})
    question = State(question="How much does the machine weigh without its pump?")
    for token, _ in graph.stream(question, thread, stream_mode="messages"):
        print(token.text, end="", flush=True)
    print("\n" + graph.get_state(thread).values["answer"])


if __name__ == "__main__":
    main()
