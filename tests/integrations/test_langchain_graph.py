"""The example graph of LangGraph, from its routes to its checkpoints."""

import asyncio
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from langchain_core.documents import Document
from langgraph.checkpoint.memory import InMemorySaver

from acre_rag import ACREEngine

EXAMPLE = Path(__file__).parents[2] / "examples" / "langgraph_answer.py"
ASKED = {"question": "When does the ferry leave?"}
THREAD: dict[str, Any] = {"configurable": {"thread_id": "1"}}


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("langgraph_answer", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def steps(graph: Any, asked: dict[str, str]) -> list[str]:  # noqa: ANN401  # LangGraph's own
    return [next(iter(part)) for part in graph.stream(asked, stream_mode="updates")]


def test_a_question_is_looked_up_answered_and_checked(
    example: ModuleType, engine: ACREEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = example.make_graph(engine)

    monkeypatch.setattr(example, "is_grounded", lambda *_: True)

    assert steps(graph, ASKED) == ["retrieve", "answer"]


def test_an_answer_that_is_not_in_the_places_falls_back(
    example: ModuleType, engine: ACREEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = example.make_graph(engine)

    monkeypatch.setattr(example, "is_grounded", lambda *_: False)

    assert steps(graph, ASKED) == ["retrieve", "answer", "fall_back"]
    assert graph.invoke(ASKED)["answer"] == example.NOT_FOUND


def test_what_is_no_question_goes_to_the_model_alone(
    example: ModuleType, engine: ACREEngine
) -> None:
    assert steps(example.make_graph(engine), {"question": "Good morning."}) == ["talk"]


def test_tokens_and_costs_stream_out_of_the_nodes(example: ModuleType, engine: ACREEngine) -> None:
    graph = example.make_graph(engine)

    check_streamed(list(graph.stream(ASKED, stream_mode=["messages", "custom"])))


@pytest.mark.skipif(
    sys.version_info < (3, 11),
    reason="LangGraph itself finds no writer in asynchronous graphs before Python 3.11",
)
def test_tokens_and_costs_stream_out_of_an_asynchronous_run(
    example: ModuleType, engine: ACREEngine
) -> None:
    graph = example.make_graph(engine)

    async def collect() -> list[tuple[str, Any]]:
        return [part async for part in graph.astream(ASKED, stream_mode=["messages", "custom"])]

    check_streamed(asyncio.run(collect()))


def check_streamed(parts: list[tuple[str, Any]]) -> None:
    costs = [part for mode, part in parts if mode == "custom"]
    tokens = [part[0].text for mode, part in parts if mode == "messages"]
    assert costs[0]["refilled"] > 0
    assert len(tokens) > 20


def test_a_checkpointer_keeps_places_and_answer(example: ModuleType, engine: ACREEngine) -> None:
    graph = example.make_graph(engine, InMemorySaver())

    out = graph.invoke(ASKED, THREAD)

    kept = graph.get_state(THREAD).values
    assert kept == out
    assert all(isinstance(place, Document) for place in kept["places"])


def test_an_answer_is_grounded_if_all_its_words_are_in_the_places(example: ModuleType) -> None:
    places = [Document("The ferry leaves at nine."), Document("It costs 12 crowns.")]

    assert example.is_grounded("at nine, 12 crowns", places)
    assert not example.is_grounded("at ten", places)
    assert not example.is_grounded("", places)
