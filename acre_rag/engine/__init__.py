"""Puts the steps in order: read, store, ask. No mathematics of its own."""

from acre_rag.engine.completion import Completion
from acre_rag.engine.engine import ACREEngine
from acre_rag.engine.stream import AnswerStream
from acre_rag.engine.worker import AsyncText

__all__ = ["ACREEngine", "AnswerStream", "AsyncText", "Completion"]
