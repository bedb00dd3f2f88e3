"""What makes caches of one model unfit for another: the identity behind every stored value."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
import xxhash
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from acre_rag.cache.travel import brought
from acre_rag.config import ACREConfig
from acre_rag.model.adapter_files import adapter_tensors
from acre_rag.model.landmarks import LandmarkAdapter

READING_FORMAT = 1

# These say where a model came from or how it computes, not what it computes.
_NOT_IDENTITY = frozenset(
    {"_name_or_path", "_model_name_or_path", "transformers_version", "dtype", "torch_dtype"}
    | {"architectures", "use_cache", "_attn_implementation", "attn_implementation"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Everything that keys and values depend on, but for the document's text.

    The computing dtype and device are left out: a cache made on a GPU serves a CPU.

    Attributes:
        weights: Digest of all weights, rounded to bfloat16.
        architecture: Digest of the configuration, rope included.
        tokenizer: Digest of the tokenizer's whole behaviour.
        prefix: Digest of the token ids before the documents (chat template, introduction).
        adapter: Digest of the landmark projections; empty without an adapter.
        stored_dtype: Number type in the store.
        interval_tokens: Raw tokens of an interval.
        window_tokens: Raw tokens of a window.
        segment_tokens: Raw tokens of a segment.
        context_tokens: Longest sequence; decides whether a short document is read exactly
            (training-free mode), 0 with an adapter.
        reading_format: Raised whenever documents come to be read in another way.
    """

    weights: str
    architecture: str
    tokenizer: str
    prefix: str
    adapter: str
    stored_dtype: str
    interval_tokens: int
    window_tokens: int
    segment_tokens: int
    context_tokens: int
    reading_format: int = READING_FORMAT

    @property
    def space(self) -> str:
        """Digest of the whole identity: caches are exchangeable if and only if it is equal."""
        return _digest_json(asdict(self))


def make_identity(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prefix_ids: list[int],
    adapter: LandmarkAdapter | None,
    config: ACREConfig,
    *,
    segment_tokens: int,
    context_tokens: int,
) -> Identity:
    """Take the identity of caches that a model, an adapter and settings would make."""
    tensors = adapter_tensors(adapter) if adapter is not None else {}
    # Selection weights choose among landmarks; they change no stored key or value.
    tensors.pop("selection", None)
    return Identity(
        weights=_digest_tensors(_weights_of(model)),
        architecture=_digest_json(_settings_of(model)),
        tokenizer=_digest_text(tokenizer.backend_tokenizer.to_str()),
        prefix=_digest_json(prefix_ids),
        adapter=_digest_tensors(sorted(tensors.items())) if tensors else "",
        stored_dtype=config.stored_dtype,
        interval_tokens=config.interval_tokens,
        window_tokens=config.window_tokens,
        segment_tokens=segment_tokens,
        context_tokens=0 if adapter is not None else context_tokens,
    )


def document_version(space: str, document_id: str, text: str) -> str:
    """Digest what one document's cache depends on: identity, document and text."""
    return _digest_json([space, document_id, _digest_text(text)])


def _weights_of(model: PreTrainedModel) -> list[tuple[str, Tensor]]:
    """List parameters and persistent buffers (some quantized weights are), tied ones once."""
    tensors: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in sorted(model.state_dict(keep_vars=True).items()):
        tensors.setdefault(id(tensor), (name, tensor))
    return list(tensors.values())


def _settings_of(model: PreTrainedModel) -> dict[str, object]:
    settings = model.config.to_dict()
    return {name: value for name, value in settings.items() if name not in _NOT_IDENTITY}


def _digest_tensors(tensors: Iterable[tuple[str, Tensor]]) -> str:
    digest = xxhash.xxh3_128()
    for name, tensor in tensors:
        plain = tensor.detach()
        if plain.is_floating_point():
            # One rounding for all: float32 and bfloat16 copies of the same weights are equal.
            plain = plain.to(torch.bfloat16)
        digest.update(f"{name}{tuple(plain.shape)}".encode())
        for piece in brought(plain.contiguous().reshape(-1).view(torch.uint8)):
            digest.update(piece.numpy().data)
    return digest.hexdigest()


def _digest_json(value: object) -> str:
    return _digest_text(json.dumps(value, sort_keys=True, default=str))


def _digest_text(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
