"""Windows with memories of different lengths, packed end to end for one attention call a layer.

A window sees the prefix, the landmarks of the windows before it, and its own rows: one call for
each of them leaves a GPU waiting for its next kernel.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from acre_rag.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPacking:
    """All windows in one attention call, each with keys of its own length, end to end.

    Attributes:
        rows: For each packed key, its row among a document's memory and windows, counted through
            all documents, (packed keys,).
        query_starts: Where the queries of each window start, and their end, (windows + 1,), int32.
        key_starts: Where the keys of each window start, and their end, (windows + 1,), int32.
        longest: Most queries, and most keys, of a window.
    """

    rows: Tensor
    query_starts: Tensor
    key_starts: Tensor
    longest: tuple[int, int]

    @classmethod
    def of(
        cls, prefix: int, documents: int, windows: int, rows: int, landmarks: int
    ) -> "WindowPacking":
        """Lay out documents of so many windows, of so many rows and landmarks each."""
        memory = prefix + windows * landmarks
        seen = [prefix + window * landmarks for window in range(windows)]
        own = [
            torch.cat([torch.arange(past), memory + window * rows + torch.arange(rows)])
            for window, past in enumerate(seen)
        ]
        first = torch.arange(documents)[:, None] * (memory + windows * rows)
        lengths = torch.tensor([past + rows for past in seen]).repeat(documents)
        return cls(
            rows=(first + torch.cat(own)).flatten(),
            query_starts=torch.arange(documents * windows + 1, dtype=torch.int32) * rows,
            key_starts=torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32),
            longest=(rows, seen[-1] + rows),
        )

    def to(self, device: torch.device) -> "WindowPacking":
        """Move the tensors to a device."""
        return replace(
            self,
            rows=self.rows.to(device),
            query_starts=self.query_starts.to(device),
            key_starts=self.key_starts.to(device),
        )

    def pack(self, memory: Tensor, windows: Tensor) -> Tensor:
        """Put each window's keys, or values, behind those that it remembers.

        Args:
            memory: Prefix and landmarks, (documents, kv_heads, memory, head_dim).
            windows: Rows of all windows, document by document, (windows, kv_heads, rows, head_dim).

        Returns:
            (packed keys, kv_heads, head_dim).
        """
        own = windows.transpose(1, 2).unflatten(0, (len(memory), -1)).flatten(1, 2)
        joined = torch.cat([memory.transpose(1, 2), own], dim=1).flatten(0, 1)
        return joined.index_select(0, self.rows)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Attend causally: query (windows, q_heads, rows, head_dim), result alike."""
        varlen_attn = _varlen_attention()
        # Before torch 2.12 keys for groups of query heads are taken without being told.
        told = "enable_gqa" in signature(varlen_attn).parameters
        grouped: dict[str, Any] = {"enable_gqa": True} if told else {}
        attended = varlen_attn(
            query.transpose(1, 2).flatten(0, 1),
            key,
            value,
            self.query_starts,
            self.key_starts,
            *self.longest,
            scale=scaling,
            window_size=(-1, 0),
            **grouped,
        )
        joined: Tensor = attended[0] if isinstance(attended, tuple) else attended
        unpacked: Tensor = joined.unflatten(0, (len(query), -1)).transpose(1, 2)
        return unpacked


def check_packing() -> None:
    """Refuse a torch that cannot attend to keys of several lengths.

    Raises:
        ConfigError: It is too old.
    """
    _varlen_attention()


def _varlen_attention() -> Callable[..., Any]:
    # Newer than the oldest torch that all else runs with, and needed to train on a GPU alone.
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        raise _too_old() from None
    if "window_size" not in signature(varlen_attn).parameters:
        raise _too_old()
    attention: Callable[..., Any] = varlen_attn
    return attention


def _too_old() -> ConfigError:
    return ConfigError(
        f"found torch {torch.__version__}; expected 2.11 or newer to train on a GPU, for its "
        "attention to windows of several lengths: upgrade torch, or train with --device cpu"
    )
