"""What `ACREAnswerChain` gives: a dict that adds up from parts, and that notebooks draw."""

import operator
from collections.abc import Sequence
from functools import reduce
from typing import Any

from langchain_core.runnables.utils import AddableDict

from acre_langchain.asking import Asked
from acre_rag import Answer


class ACREOutput(AddableDict):
    """A dict of `context`, `answer` and `usage`, or a part of it; parts add up.

    Attributes:
        refilled: The engine's own answer, with its refill map; `None` until it has ended. It is
            no value of the dict: instruments and checkpoints write those down.
    """

    refilled: Answer | None = None

    def __add__(self, other: AddableDict) -> "ACREOutput":
        return self._with(super().__add__(other), other)

    def __radd__(self, other: AddableDict) -> "ACREOutput":
        return self._with(super().__radd__(other), other)

    def _with(self, added: AddableDict, other: AddableDict) -> "ACREOutput":
        output = ACREOutput(added)
        output.refilled = self.refilled or getattr(other, "refilled", None)
        return output

    def _repr_html_(self) -> str | None:
        return self.refilled._repr_html_() if self.refilled is not None else None


def last_output(asked: Asked) -> ACREOutput:
    """Give the last part: what the question cost."""
    output = ACREOutput(usage=asked.usage())
    output.refilled = asked.stream.answer
    return output


def whole_output(parts: Sequence[dict[str, Any]]) -> ACREOutput:
    """Put the parts of a stream together."""
    return reduce(operator.add, parts, ACREOutput())
