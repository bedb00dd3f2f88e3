"""Put the chosen intervals' L2 back, each immediately before its own landmark, which stays.

ACRE, figure (b): `L1 | L1 | L2 L2 L1 | L2 L2 L1 | question`.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from acre_rag.cache import KVBlock, RoomyBlock

MakeRoom: TypeAlias = Callable[[KVBlock, int], RoomyBlock]
"""Gives memory like a block's for so many tokens."""


def splice_order(landmark_intervals: Tensor, token_intervals: Tensor) -> Tensor:
    """Order landmarks and refilled tokens as they stand in the document.

    Args:
        landmark_intervals: Interval of each landmark, rising, (landmarks,), int64.
        token_intervals: Interval of each refilled token, in order, (refilled,), int64.

    Returns:
        Places in the concatenation (landmarks, then tokens), (landmarks + refilled,), int64.
    """
    # Tokens of an interval come before its landmark; a stable sort keeps their own order.
    ranks = torch.cat([landmark_intervals * 2 + 1, token_intervals * 2])
    return torch.argsort(ranks, stable=True)


class Splicing:
    """Lays out what the model answers from, token by token as they come; keys stay un-rotated.

    Every token is written once, to where it belongs.

    Args:
        prefix: What stands before the documents, (layers, kv_heads, tokens, head_dim).
        landmark_intervals: Interval of each landmark, (landmarks,), int64.
        token_intervals: Interval of each refilled token, (refilled,), int64.
        room: Gives the memory.
    """

    def __init__(
        self,
        prefix: KVBlock,
        landmark_intervals: Tensor,
        token_intervals: Tensor,
        room: MakeRoom = RoomyBlock.like,
    ) -> None:
        order = splice_order(landmark_intervals, token_intervals)
        places = torch.argsort(order) + prefix.tokens
        self._places = places.split([len(landmark_intervals), len(token_intervals)])
        self._missing = len(places)
        self._spliced = room(prefix, prefix.tokens + len(places))
        self._spliced.put(prefix, torch.arange(prefix.tokens))

    def put_landmarks(self, first: int, block: KVBlock) -> None:
        """Put neighbouring landmarks to their places, the first of them being counted so."""
        self._put(block, self._places[0][first : first + block.tokens])

    def put_tokens(self, firsts: Sequence[int], block: KVBlock) -> None:
        """Put refilled tokens to their places, all in one step: a GPU is told seldom, and much.

        Args:
            firsts: Number of the first token of each run of neighbours, rising.
            block: Their tokens, run behind run, equally many of each.
        """
        run = torch.arange(block.tokens // len(firsts))
        numbers = torch.tensor(firsts)[:, None] + run
        self._put(block, self._places[1][numbers.flatten()])

    def done(self) -> RoomyBlock:
        """Give prefix, then landmarks and refilled tokens in document order, with room behind.

        Raises:
            ValueError: Not every token was put.
        """
        if self._missing:
            raise ValueError(
                f"{self._missing} tokens too few were put into a refilled cache; expected each of "
                "them once: put the others"
            )
        return self._spliced

    def _put(self, block: KVBlock, places: Tensor) -> None:
        self._spliced.put(block, places)
        self._missing -= block.tokens


def splice(
    prefix: KVBlock,
    landmarks: Sequence[KVBlock],
    landmark_intervals: Tensor,
    refill: Sequence[KVBlock],
    token_intervals: Tensor,
) -> RoomyBlock:
    """Splice what is there as a whole; see `Splicing`.

    Args:
        prefix: What stands before the documents, (layers, kv_heads, tokens, head_dim).
        landmarks: L1 that is kept, in order; none where raw tokens stand alone.
        landmark_intervals: Interval of each landmark, (landmarks,), int64.
        refill: L2 of the chosen intervals, in order, in as many parts as there are; none for the
            budget 0.
        token_intervals: Interval of each refilled token, (refilled,), int64.

    Returns:
        Prefix, then landmarks and refilled tokens in document order, with room behind them.
    """
    splicing = Splicing(prefix, landmark_intervals, token_intervals)
    first = 0
    for block in landmarks:
        splicing.put_landmarks(first, block)
        first += block.tokens
    first = 0
    for block in refill:
        splicing.put_tokens([first], block)
        first += block.tokens
    return splicing.done()
