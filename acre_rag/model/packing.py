"""Windows with memories of different lengths, packed end to end for one attention call a layer.

A window sees the prefix, the landmarks of the windows before it, and its own rows: one call for
each of them leaves a GPU waiting for its next kernel.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from acre_rag.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPacking:
    """All windows in one attention call, each with keys of its own length, end to end.

    Rows of windows are counted through all documents.

    Attributes:
        rows: For each packed key, the row it is; any row where the prefix goes, (packed keys,).
        positions: For each packed key, where it stands to its window, (packed keys,).
        prefix_slots: Packed keys that are the prefix, window by window, (windows * prefix,).
        memory_slots: Packed keys that are landmarks of earlier windows, (memories,).
        own_slots: The packed key that each row is to its own window, (rows,).
        query_starts: Where the queries of each window start, and their end, (windows + 1,), int32.
        key_starts: Where the keys of each window start, and their end, (windows + 1,), int32.
        longest: Most queries, and most keys, of a window.
    """

    rows: Tensor
    positions: Tensor
    prefix_slots: Tensor
    memory_slots: Tensor
    own_slots: Tensor
    query_starts: Tensor
    key_starts: Tensor
    longest: tuple[int, int]

    @classmethod
    def of(
        cls, prefix: int, documents: int, windows: int, rows: int, landmark_rows: Tensor
    ) -> "WindowPacking":
        """Lay out documents of so many windows and rows each, with landmarks in some of the rows.

        Args:
            prefix: Tokens in front of every document.
            documents: How many there are.
            windows: Windows of each document.
            rows: Rows of each window.
            landmark_rows: Which of them are landmarks, (landmarks,).
        """
        places = landmark_rows.cpu()
        landmarks = (torch.arange(windows)[:, None] * rows + places).flatten()
        seen = [prefix + window * len(places) for window in range(windows)]
        # Of one document; -1 is the prefix, whose rows are no window's.
        none = torch.full((prefix,), -1)
        document = torch.cat(
            [
                torch.cat([none, landmarks[: past - prefix], window * rows + torch.arange(rows)])
                for window, past in enumerate(seen)
            ]
        )
        own = torch.cat([torch.arange(past + rows) >= past for past in seen])
        first = torch.arange(documents)[:, None] * (windows * rows)
        is_prefix, is_own = (document < 0).repeat(documents), own.repeat(documents)
        lengths = torch.tensor([past + rows for past in seen]).repeat(documents)
        return cls(
            rows=(first + document.clamp(min=0)).flatten(),
            positions=torch.cat([torch.arange(past + rows) for past in seen]).repeat(documents),
            prefix_slots=is_prefix.nonzero().flatten(),
            memory_slots=(~is_prefix & ~is_own).nonzero().flatten(),
            own_slots=is_own.nonzero().flatten(),
            query_starts=torch.arange(documents * windows + 1, dtype=torch.int32) * rows,
            key_starts=torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32),
            longest=(rows, seen[-1] + rows),
        )

    def to(self, device: torch.device) -> "WindowPacking":
        """Move the tensors to a device."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)

    def pack(self, prefix: Tensor, windows: Tensor) -> Tensor:
        """Put each window's keys, or values, behind the prefix and the landmarks before it.

        Args:
            prefix: No gradient reaches it, (1, kv_heads, prefix, head_dim).
            windows: Rows of all windows, document by document, (windows, kv_heads, rows, head_dim).

        Returns:
            (packed keys, kv_heads, head_dim).
        """
        packed: Tensor = _Pack.apply(  # type: ignore[no-untyped-call]  # torch's own
            windows.transpose(1, 2).flatten(0, 1), prefix[0].transpose(0, 1), self
        )
        return packed

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


class _Pack(torch.autograd.Function):
    """Gathers rows; its gradient is a gather as well, as every row is its own window's once."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, prefix: Tensor, packing: WindowPacking) -> Tensor:  # noqa: ANN401
        ctx.packing = packing
        packed = rows.index_select(0, packing.rows)
        slots = packing.prefix_slots
        return packed.index_copy_(0, slots, prefix.repeat(len(slots) // len(prefix), 1, 1))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        packing = ctx.packing
        found = gradient.index_select(0, packing.own_slots)
        slots = packing.memory_slots
        found.index_add_(0, packing.rows[slots], gradient.index_select(0, slots))
        return found, None, None


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
