"""Tiny random models of every family, their tokenizer and landmark adapters, all made here."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

from acre_rag.config import ACREConfig, Prompt
from acre_rag.model.landmarks import (
    FullProjection,
    LandmarkAdapter,
    LowRankProjection,
    Projection,
    question_groups,
)
from acre_rag.model.local import LocalModel

LAYERS, Q_HEADS, KV_HEADS, HEAD_DIM, HIDDEN, INNER = 3, 4, 2, 6, 20, 28
CONTEXT = 640
RANK = 3
INTERVAL = 4

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SHORT_PROMPT = Prompt(
    introduction="Read.\n", question="\nAsked: {question}\n", instructions="Be brief."
)
# Each merge joins two tokens that are there already; a leading space is written "Ġ".
_MERGES = (
    ("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n"), ("e", "r"), ("a", "n"), ("an", "d"),
    ("Ġ", "and"), ("o", "n"), ("r", "e"), ("Ġ", "a"), ("Ġ", "s"), ("o", "u"), ("l", "l"),
    ("in", "g"), ("Ġ", "w"), ("e", "n"), ("e", "d"),
)  # fmt: skip


@lru_cache(maxsize=1)
def _backend() -> str:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*alphabet, *("".join(merge) for merge in _MERGES)]
    vocabulary = {name: place for place, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=list(_MERGES)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(name, special=True, normalized=False) for name in SPECIAL_TOKENS]
    )
    return str(tokenizer.to_str())


def tiny_tokenizer(backend: str | None = None) -> PreTrainedTokenizerFast:
    """Make a byte-level BPE tokenizer with a chat template; a new one each time."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(backend or _backend()),
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        chat_template=CHAT_TEMPLATE,
    )


VOCABULARY = len(tiny_tokenizer())

_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": Q_HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD_DIM,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": None,
    "eos_token_id": VOCABULARY - 3,
    "pad_token_id": VOCABULARY - 3,
}


def _llama(rope: Mapping[str, object] | None = None) -> PreTrainedConfig:
    parameters = {"rope_type": "default", "rope_theta": 10000.0} | dict(rope or {})
    return LlamaConfig(**_SIZES, rope_parameters=parameters)


FAMILIES: Mapping[str, Callable[[], PreTrainedConfig]] = MappingProxyType(
    {
        "llama": _llama,
        "llama-linear": lambda: _llama({"rope_type": "linear", "factor": 2.0}),
        "llama-llama3": lambda: _llama(
            {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        ),
        "llama-yarn": lambda: _llama(
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 160}
        ),
        "mistral": lambda: MistralConfig(**_SIZES, sliding_window=None),
        "qwen2": lambda: Qwen2Config(**_SIZES, use_sliding_window=False),
        "qwen3": lambda: Qwen3Config(**_SIZES),
        "phi3": lambda: Phi3Config(**_SIZES),
        "phi3-partial": lambda: Phi3Config(
            **_SIZES | {"head_dim": 8},
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 10000.0,
                "partial_rotary_factor": 0.5,
            },
        ),
        "smollm3": lambda: SmolLM3Config(**_SIZES, no_rope_layers=[1, 0, 1]),
        "granite": lambda: GraniteConfig(
            **_SIZES,
            embedding_multiplier=2.0,
            residual_multiplier=0.7,
            attention_multiplier=0.2,
            logits_scaling=0.5,
        ),
        "olmo2": lambda: Olmo2Config(**_SIZES),
        "gemma": lambda: GemmaConfig(**_SIZES),
    }
)


def build(config: PreTrainedConfig, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Make a model whose every weight is random, norms and biases included."""
    # Kept off the model itself: anything that computes would differ between implementations.
    config._attn_implementation = "sdpa"
    model = AutoModelForCausalLM.from_config(config).eval()
    generator = torch.Generator().manual_seed(20260101)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if weight.ndim == 1:
                around = 1.0 if "norm" in name and config.model_type != "gemma" else 0.0
                weight.copy_(around + 0.3 * noise)
            else:
                weight.copy_(noise if "embed" in name else 0.3 * noise)
    return model.to(dtype)


def tiny_model(family: str = "llama", dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Make a model of a family; the same weights each time, rounded to the dtype."""
    return build(FAMILIES[family](), dtype)


def tiny_local(family: str = "llama", dtype: torch.dtype = torch.float32) -> LocalModel:
    """Make a model of a family with the tiny tokenizer."""
    return LocalModel(model=tiny_model(family, dtype), tokenizer=tiny_tokenizer(), name=family)


def save_tiny_llama(path: Path, context_tokens: int) -> PreTrainedConfig:
    """Write a tiny Llama with a longer context, and its tokenizer, to a directory."""
    config = FAMILIES["llama"]()
    config.max_position_embeddings = context_tokens
    build(config).save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return config


def tiny_adapter(
    config: PreTrainedConfig,
    kind: str = "low-rank",
    *,
    interval_tokens: int = INTERVAL,
    question_landmarks: int = 0,
    dtype: torch.dtype = torch.float32,
) -> LandmarkAdapter:
    """Make random landmark projections, `low-rank` or `full`, as large as the model's own."""
    generator = torch.Generator().manual_seed(77)

    def random(*shape: int, scale: float = 1.0) -> Tensor:
        return (scale * torch.randn(*shape, generator=generator)).to(dtype)

    def projection(outputs: int) -> Projection:
        if kind == "full":
            return FullProjection(random(outputs, HIDDEN, scale=0.3), random(outputs, scale=0.3))
        return LowRankProjection(random(RANK, HIDDEN, scale=0.4), random(outputs, RANK, scale=0.4))

    head_dim = getattr(config, "head_dim", HEAD_DIM)
    widths = {"q": Q_HEADS * head_dim, "k": KV_HEADS * head_dim, "v": KV_HEADS * head_dim}
    groups = question_groups(question_landmarks)
    selection = torch.rand(LAYERS, Q_HEADS, groups, generator=generator)
    return LandmarkAdapter(
        embedding=random(HIDDEN),
        projections=[
            {name: projection(width) for name, width in widths.items()} for _ in range(LAYERS)
        ],
        selection=selection / selection.sum(),
        interval_tokens=interval_tokens,
        question_embeddings=random(question_landmarks, HIDDEN) if question_landmarks else None,
    )


def tiny_settings(**changes: object) -> ACREConfig:
    """Make settings with several windows and segments in some sixty tokens."""
    settings = {
        "interval_tokens": INTERVAL,
        "window_tokens": 3 * INTERVAL,
        "segment_tokens": 6 * INTERVAL,
        "stored_dtype": "float32",
        "prompt": SHORT_PROMPT,
    }
    return ACREConfig(**settings | changes)  # type: ignore[arg-type]
