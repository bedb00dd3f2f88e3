"""Run a model as answering does, at a few sizes, and take the time."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from acre_rag.cache import KVBlock
from acre_rag.cache.stored import plain_form, stored_bytes, stored_form
from acre_rag.cost import Curve, ModelSpeeds, Pass, fitted
from acre_rag.engine.arrivals import reader_arrivals
from acre_rag.engine.asked import Segment
from acre_rag.engine.scored import landmark_scores
from acre_rag.model.decode import asked_cache, decode, rotated_cache
from acre_rag.model.prompt import QuestionRows
from acre_rag.model.reader import DocumentReader, none_known
from acre_rag.refill import splice
from acre_rag.text.tokens import TokenizedText, tokenize

if TYPE_CHECKING:  # the model's room alone imports it
    from transformers import DynamicCache

_SENTENCE = "The ferry leaves at nine, and whoever is late waits for the next one at noon. "
_PROMPTS = (16, 64, 256, 1024, 4096)
_DOCUMENTS = (64, 512)
_REMEMBERED = (64, 1024)
_WORDS = (4, 64)
_LONGEST_RUN = 3.0  # seconds; what would take longer is predicted from shorter runs
_STEPS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    """What the runs are made of: a text of many tokens, and what the model makes of some."""

    text: str
    tokens: TokenizedText
    l1: KVBlock
    l2: KVBlock


def measure_model(reader: DocumentReader) -> ModelSpeeds:
    """Measure what answering costs with a model on this machine, in some seconds."""
    sample = _sample(reader)
    form = reader.config.stored_dtype
    most = min(len(sample.tokens.ids), reader.context_tokens - 1)
    prefill = _curve(_PROMPTS, most, lambda tokens: _prefill(reader, sample, tokens), squared=True)
    encode = _curve(_DOCUMENTS, most, lambda tokens: _encode(reader, sample, tokens))
    return ModelSpeeds(
        prefill=prefill,
        encode=encode,
        select=_pass(reader, lambda rows, size: _select(reader, sample, rows, size)),
        answer=_pass(reader, lambda rows, size: _answer(reader, sample, rows, size)),
        step=_curve(_REMEMBERED, most - _STEPS, lambda tokens: _step(reader, sample, tokens)),
        restore_l1=_restore(reader, sample.l1, plain_form(form)),
        restore_l2=_restore(reader, sample.l2, form),
    )


def _sample(reader: DocumentReader) -> _Sample:
    text = _SENTENCE * (max(_PROMPTS) // 8)
    tokens = tokenize(text, reader.frame)
    layout = reader.layout(8 * reader.config.interval_tokens)
    ids = tokens.ids[: layout.tokens]
    read = [cache for _, cache in reader.read(ids, layout, range(layout.windows), none_known)]
    l1 = KVBlock.concatenate([cache.l1 for cache in read])
    return _Sample(
        text=text, tokens=tokens, l1=l1, l2=KVBlock.concatenate([cache.l2 for cache in read])
    )


def _prefill(reader: DocumentReader, sample: _Sample, tokens: int) -> float:
    """Take the time from a text to the first token that follows it."""
    text = sample.text[: int(sample.tokens.ends[tokens - 1])]
    started = time.perf_counter()
    ids, _ = reader.frame.encode_with_offsets(text)
    return _first_token(reader, None, ids) - started


def _encode(reader: DocumentReader, sample: _Sample, tokens: int) -> float:
    """Take the time to read a text into blocks as they are stored."""
    form = reader.config.stored_dtype
    layout = reader.layout(tokens)
    ids = sample.tokens.ids[:tokens]
    started = time.perf_counter()
    for _, read in reader.read(ids, layout, range(layout.windows), none_known):
        stored_form(read.l1, plain_form(form))
        stored_form(read.l2, form)
    return time.perf_counter() - started


def _select(reader: DocumentReader, sample: _Sample, rows: QuestionRows, size: int) -> float:
    """Take the time of a question over landmarks, and of their scores."""
    segment = Segment(0, range(size), _tiled(sample.l1, size))
    started = time.perf_counter()
    landmark_scores(reader, [segment], [rows])[0].cpu()
    return time.perf_counter() - started


def _answer(reader: DocumentReader, sample: _Sample, rows: QuestionRows, size: int) -> float:
    """Take the time from fetched tokens to the first token of an answer over them."""
    count = max(size // 8, 1)
    refill, owners = _tiled(sample.l2, size), torch.arange(size) * count // size
    landmarks = [_tiled(sample.l1, count)] if reader.has_landmarks else []
    kept = torch.arange(count if landmarks else 0)
    started = time.perf_counter()
    with reader.local.lock, torch.inference_mode():
        spliced = splice(reader.prefix, landmarks, kept, [refill], owners)
        cache, ids = asked_cache(reader.local, reader.twin, spliced, rows.ids)
    return _first_token(reader, cache, ids) - started


def _step(reader: DocumentReader, sample: _Sample, size: int) -> float:
    """Take the time of one further token behind so many."""
    local = reader.local
    with local.lock, torch.inference_mode():
        cache = rotated_cache(local, reader.twin, _tiled(sample.l2, size))
        row = torch.tensor([[int(sample.tokens.ids[0])]], device=local.device)
        started = time.perf_counter()
        for _ in range(_STEPS):
            local.model(row, past_key_values=cache).logits[0, -1].argmax().item()
        return (time.perf_counter() - started) / _STEPS


def _restore(reader: DocumentReader, block: KVBlock, form: str) -> float:
    """Take the time that a stored byte takes to become keys and values, as a fetch turns it."""
    stored = stored_form(_tiled(block, 256), form)
    size = min(reader.config.interval_tokens, 256)
    pieces = [stored.slice(at, at + size) for at in range(0, 256 - size + 1, size)]

    def run() -> float:
        last: list[KVBlock] = []
        started = time.perf_counter()
        arrivals = reader_arrivals(reader, lambda _, block: last.append(block))
        for number, piece in enumerate(pieces):
            arrivals.add(number, piece)
        arrivals.flush()
        last[-1].keys.flatten()[-1].item()  # waits for the device
        return time.perf_counter() - started

    return _least(run) / sum(stored_bytes(form, piece.shape) for piece in pieces)


def _first_token(reader: DocumentReader, cache: "DynamicCache | None", ids: list[int]) -> float:
    """Start an answer, and tell when its first token came."""
    times: list[float] = []
    for _ in decode(reader.local, cache, ids, 1, lambda: times.append(time.perf_counter())):
        pass
    return times[0]


def _curve(
    sizes: Sequence[int], most: int, run: Callable[[int], float], *, squared: bool = False
) -> Curve:
    """Run growing sizes, as long as that is bearable, and fit their seconds."""
    terms: list[tuple[float, ...]] = []
    seconds: list[float] = []
    for size in sorted({max(min(size, most), 1) for size in sizes}):
        if len(seconds) > 1 and seconds[-1] * size / terms[-1][1] > _LONGEST_RUN:
            break
        seconds.append(_least(partial(run, size)))
        terms.append((1.0, float(size), float(size**2))[: 3 if squared else 2])
    fixed, per_token, *per_pair = fitted(terms, seconds)
    return Curve(fixed=fixed, per_token=per_token, per_pair=sum(per_pair))


def _pass(reader: DocumentReader, run: Callable[[QuestionRows, int], float]) -> Pass:
    """Run questions of different lengths behind what is remembered, and fit their seconds."""
    terms, seconds = [], []
    for words in _WORDS:
        rows = reader.frame.question_rows("word " * words)
        taken = reader.prefix.tokens + len(rows.ids)
        # With the landmarks that go along, and a token of the answer.
        free = max((reader.context_tokens - taken - 1) * 8 // 9, 1)
        for size in sorted({min(size, free) for size in _REMEMBERED}):
            seconds.append(_least(partial(run, rows, size)))
            terms.append((1.0, float(len(rows.ids)), float(reader.prefix.tokens + size)))
    fixed, per_row, per_remembered = fitted(terms, seconds)
    return Pass(fixed=fixed, per_row=per_row, per_remembered=per_remembered)


def _tiled(block: KVBlock, tokens: int) -> KVBlock:
    """Repeat a block until it has so many tokens."""
    times = -(-tokens // block.tokens)
    return KVBlock.concatenate([block] * times).slice(0, tokens)


def _least(run: Callable[[], float]) -> float:
    """Run until something else can no longer have slowed down every run; give the shortest time."""
    first = run()
    # The first of short runs opens what the others find open; long ones hardly differ.
    return min(first, run(), run()) if first < 0.5 else first
