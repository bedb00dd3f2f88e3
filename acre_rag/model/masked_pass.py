"""All windows in one forward pass, attention written out: what window-by-window must equal."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from acre_rag.cache import KVBlock
from acre_rag.model.prefill import interleave
from acre_rag.model.reader import DocumentReader
from acre_rag.model.reading import ReadingTwin
from acre_rag.model.support import rotates, rotation_of

_ATTENTION_NAME = "acre_masked_pass"


@dataclass(slots=True)
class _Windows:
    """State of the pass: for each window, its rows, what they see, and where that stands."""

    rows: list[Tensor]
    seen: list[Tensor]
    cosines: list[Tensor]
    sines: list[Tensor]
    landmark_rows: Tensor
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)


def masked_pass(
    reader: DocumentReader, document: Tensor, interval_tokens: int, window_tokens: int
) -> KVBlock:
    """Read prefix and all windows, landmarks between, in one forward pass.

    A landmark stands at its place in its own window, and at its rank behind the prefix for later
    windows: positions depend on the window that looks.

    Args:
        reader: Model, adapter and prefix.
        document: Token ids, (tokens,).
        interval_tokens: Raw tokens of an interval.
        window_tokens: Raw tokens of a window.

    Returns:
        Keys (not rotated) and values of all rows of the document, landmarks included.
    """
    AttentionInterface.register(_ATTENTION_NAME, _attend)
    twin = ReadingTwin(reader.local.model, reader.twin.adapter, _ATTENTION_NAME)
    prefix = torch.tensor(reader.frame.prefix_ids, device=document.device)
    embeddings, spans, landmarks = [twin.embed(prefix[None])], [], []
    start = len(prefix)
    for window in document.split(window_tokens):
        places = interleave(len(window), interval_tokens, document.device)
        rows = torch.empty(1, places.rows, embeddings[0].shape[-1], dtype=embeddings[0].dtype)
        rows = rows.to(document.device).index_copy(1, places.tokens, twin.embed(window[None]))
        marks = _landmark_embedding(twin, rows).expand(1, len(places.landmarks), -1)
        embeddings.append(rows.index_copy(1, places.landmarks, marks))
        landmarks.append(places.landmarks + start)
        spans.append(torch.arange(start, start + places.rows, device=document.device))
        start += places.rows
    state = _plan(twin, torch.cat(embeddings, dim=1), len(prefix), spans, landmarks)
    positions = torch.arange(start, device=document.device)[None]
    twin.decoder(
        inputs_embeds=torch.cat(embeddings, dim=1),
        position_ids=positions,
        use_cache=False,
        acre=state,
    )
    keys, values = torch.stack(state.keys)[:, 0], torch.stack(state.values)[:, 0]
    return KVBlock(keys, values).slice(len(prefix), start)


def _landmark_embedding(twin: ReadingTwin, rows: Tensor) -> Tensor:
    if twin.adapter is None:
        raise ValueError("found no landmark adapter; expected one: there is nothing to compare")
    return twin.adapter.embedding.to(rows.device, rows.dtype)


def _plan(
    twin: ReadingTwin, rows: Tensor, prefix: int, spans: list[Tensor], landmarks: list[Tensor]
) -> _Windows:
    total = rows.shape[1]
    state = _Windows([], [], [], [], torch.cat(landmarks))
    first = torch.arange(prefix, device=rows.device)
    for window, own in enumerate([first, *spans]):
        # Window 0 here is the prefix itself.
        earlier = torch.cat(landmarks[: window - 1]) if window > 1 else own[:0]
        places = torch.zeros(total, dtype=torch.long, device=rows.device)
        places[:prefix] = first
        places[earlier] = prefix + torch.arange(len(earlier), device=rows.device)
        if window:
            places[own] = prefix + len(earlier) + torch.arange(len(own), device=rows.device)
        seen = torch.zeros(len(own), total, dtype=torch.bool, device=rows.device)
        seen[:, :prefix] = window > 0
        seen[:, earlier] = True
        seen[:, own] = torch.ones(len(own), len(own), dtype=torch.bool, device=rows.device).tril()
        cos, sin = twin.rotary(rows, places[None])
        state.rows.append(own)
        state.seen.append(seen)
        state.cosines.append(cos)
        state.sines.append(sin)
    return state


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: Tensor | None,
    *,
    scaling: float,
    acre: _Windows,
    **_unused: object,
) -> tuple[Tensor, None]:
    acre.keys.append(key)
    acre.values.append(value)
    heads = query.shape[1] // key.shape[1]
    spread = value.repeat_interleave(heads, dim=1)
    attended = torch.empty_like(query)
    windows = zip(acre.rows, acre.seen, acre.cosines, acre.sines, strict=True)
    for rows, seen, cos, sin in windows:
        turned_query, turned_key = query, key
        if rotates(module):
            turned_query, turned_key = rotation_of(module)(query, key, cos, sin)
        keys = turned_key.repeat_interleave(heads, dim=1)
        logits = (turned_query[:, :, rows] @ keys.transpose(2, 3)).float() * scaling
        paid = logits.masked_fill(~seen, -torch.inf).softmax(dim=-1)
        attended[:, :, rows] = (paid @ spread.float()).to(query.dtype)
    return attended.transpose(1, 2).contiguous(), None
