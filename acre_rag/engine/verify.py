"""The equivalence gate: on this machine, are refilled answers those of the model itself?

Each comparison is with something computed in a plain way: the model's own forward pass, and
attention written out with an explicit mask and explicit positions. One of them takes the refill
through the form that a store keeps it in, and has a tolerance for what that form rounds.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from acre_rag.cache import KVBlock
from acre_rag.cache.stored import stored_form
from acre_rag.model.decode import rotate_into_cache, rotated_cache
from acre_rag.model.masked_pass import masked_pass
from acre_rag.model.prefill import interleave, interleave_embeddings, read_window
from acre_rag.model.reader import DocumentReader
from acre_rag.model.reading import Memory
from acre_rag.model.support import model_dtype
from acre_rag.refill.splice import splice

_INTERVAL = 16
_WINDOW = 64
_TOKENS = 150
_QUESTION_TOKENS = 12
# Rounding of thirty layers, relative to the largest value; one row out of place costs 0.1.
_TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}
# Storing may cost as much again. Half a step of int8 is 1/254 of the farthest number, which is as
# coarse as bfloat16 (1/256 of each). Half a step of 4 bits is 1/14: up to 0.35 was seen in random
# models of three layers, 0.03 in the demo model.
_STORED_TOLERANCES = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 5e-2, "int8": 5e-2}
_COARSE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One thing computed in two ways.

    Attributes:
        name: What was compared.
        difference: Largest difference, relative to the largest value.
        tolerance: Largest difference that the number type explains.
    """

    name: str
    difference: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the difference is within tolerance; a NaN is not."""
        return self.difference <= self.tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the equivalence gate found.

    Attributes:
        model: Name of the model.
        device: Where it computed.
        dtype: Number type it computed in.
        attention: Attention backend of the model.
        stored: Form that raw tokens are stored in.
        comparisons: In the order made.
    """

    model: str
    device: str
    dtype: str
    attention: str
    stored: str
    comparisons: tuple[Comparison, ...]

    @property
    def passed(self) -> bool:
        """Whether every comparison is within tolerance."""
        return all(comparison.passed for comparison in self.comparisons)


def verify(reader: DocumentReader) -> Report:
    """Compare refilling with plain computation, on the reader's model, machine and number type.

    The token ids are random but fixed: what matters is whether two computations agree.
    """
    local = reader.local
    generator = torch.Generator().manual_seed(0)
    vocabulary = local.model.config.vocab_size
    ids = torch.randint(vocabulary, (_TOKENS + _QUESTION_TOKENS,), generator=generator)
    document, question = ids.to(local.device).split([_TOKENS, _QUESTION_TOKENS])
    with local.lock, torch.inference_mode():
        comparisons = _full_refill(reader, document, question)
        if reader.has_landmarks:
            comparisons += [_windows(reader, document), _spliced(reader, document, question)]
    return Report(
        model=local.name,
        device=str(local.device),
        dtype=str(model_dtype(local.model)).removeprefix("torch."),
        attention=str(local.model.config._attn_implementation),
        stored=reader.config.stored_dtype,
        comparisons=tuple(comparisons),
    )


def _full_refill(reader: DocumentReader, document: Tensor, question: Tensor) -> list[Comparison]:
    """One window, no landmarks, everything refilled, against the model's own forward pass.

    Once as it was read, once as it comes back from the form that it is stored in.
    """
    model = reader.local.model
    prefix = torch.tensor(reader.frame.prefix_ids, device=document.device)
    whole = torch.cat([prefix, document, question])
    theirs = model(whole[None], use_cache=False).logits[0, -len(question) :]

    block = reader.prefix
    memory = reader.twin.remember(block.keys[:, None], block.values[:, None])
    read = read_window(reader.twin, document, memory, _INTERVAL, landmarks=False).l2
    form = reader.config.stored_dtype
    stored = [
        stored_form(read.slice(start, min(start + _INTERVAL, read.tokens)), form)
        for start in range(0, read.tokens, _INTERVAL)
    ]

    def answered(refill: KVBlock) -> Tensor:
        cache = rotated_cache(reader.local, reader.twin, KVBlock.concatenate([block, refill]))
        logits: Tensor = model(question[None], past_key_values=cache).logits[0]
        return logits

    return [
        _compare("everything refilled = the model's own forward pass", answered(read), theirs),
        _compare(
            f"the same from what is stored, {form}",
            answered(reader.computed(*stored)),
            theirs,
            _STORED_TOLERANCES.get(form, _COARSE),
        ),
    ]


def _windows(reader: DocumentReader, document: Tensor) -> Comparison:
    """Window by window with landmarks, against one pass with an explicit mask."""
    windows = _landmark_windows(reader, document)
    ours = KVBlock.concatenate(windows)
    theirs = masked_pass(reader, document, _INTERVAL, _WINDOW)
    return _compare(
        "window by window = one pass with an explicit mask",
        torch.cat([ours.keys, ours.values]),
        torch.cat([theirs.keys, theirs.values]),
    )


def _spliced(reader: DocumentReader, document: Tensor, question: Tensor) -> Comparison:
    """Every other interval refilled, against all of it with the others hidden."""
    twin, prefix = reader.twin, reader.prefix
    window = document[:_WINDOW]
    whole = _landmark_windows(reader, window)[0]
    places = interleave(_WINDOW, _INTERVAL, document.device)
    owners = torch.arange(_WINDOW) // _INTERVAL
    chosen = (owners % 2 == 0).nonzero().flatten()
    landmarks = whole.take(places.landmarks)
    refill = whole.take(places.tokens).take(chosen.to(document.device))
    kept = torch.arange(landmarks.tokens)
    spliced = splice(prefix, [landmarks], kept, [refill], owners[chosen])
    cache = rotate_into_cache(reader.local, twin, spliced)
    ours = reader.local.model.model(question[None], past_key_values=cache).last_hidden_state

    everything = KVBlock.concatenate([prefix, whole])
    hidden = torch.zeros(everything.tokens, dtype=torch.bool)
    hidden[places.tokens[owners.to(document.device) % 2 == 1].cpu() + prefix.tokens] = True
    # A hidden row takes no position, wherever it stands.
    positions = ((~hidden).cumsum(0) - 1).clamp(min=0).to(document.device)
    memory = Memory(
        keys=twin.rotate(everything.keys[:, None], positions),
        values=everything.values[:, None],
        hidden=hidden[None].to(document.device),
    )
    theirs = twin.read(twin.embed(question[None]), memory=memory).states
    return _compare("decoding over a refilled cache = the rest of it hidden", ours, theirs)


def _landmark_windows(reader: DocumentReader, document: Tensor) -> list[KVBlock]:
    """Read windows one by one, each behind the prefix and the landmarks before it."""
    read: list[KVBlock] = []
    seen = [reader.prefix]
    for window in document.split(_WINDOW):
        block = KVBlock.concatenate(seen)
        places = interleave(len(window), _INTERVAL, window.device)
        reading = reader.twin.read(
            interleave_embeddings(reader.twin, window[None], places),
            memory=reader.twin.remember(block.keys[:, None], block.values[:, None]),
            landmark_rows=places.landmarks,
        )
        both = KVBlock(reading.keys[:, 0], reading.values[:, 0])
        read.append(both)
        seen.append(both.take(places.landmarks))
    return read


def _compare(name: str, ours: Tensor, theirs: Tensor, storing: float = 0.0) -> Comparison:
    """Compare, with the tolerance of the number type and what storing may add to it."""
    difference = (ours - theirs).float().abs().max() / theirs.float().abs().max()
    return Comparison(
        name=name,
        difference=float(difference),
        tolerance=_TOLERANCES.get(ours.dtype, max(_TOLERANCES.values())) + storing,
    )
