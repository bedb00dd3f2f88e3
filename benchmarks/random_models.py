"""Models of known shapes with random weights: speed depends on the shape alone.

Nothing comes from a hub. The tokenizer is made of the example documents, and knows fewer tokens
than the model: what a model of random weights says means nothing anyway.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from acre_rag import LocalModel
from acre_rag.model.landmarks import LandmarkAdapter, question_groups
from acre_rag.model.support import check_supported
from benchmarks.prefill import random_adapter

RANK = 64
_DOCUMENTS = Path(__file__).parents[1] / "examples" / "documents"
_TOKENS = 2048
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _small_qwen() -> PreTrainedConfig:
    return Qwen2Config(
        vocab_size=151_936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=32_768,
        tie_word_embeddings=True,
        use_sliding_window=False,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
    )


def _qwen() -> PreTrainedConfig:
    return Qwen2Config(
        vocab_size=151_936,
        hidden_size=2048,
        intermediate_size=11_008,
        num_hidden_layers=36,
        num_attention_heads=16,
        num_key_value_heads=2,
        # Its own is 32,768: raised so that a full prefill of 128,000 can be measured beside ours.
        max_position_embeddings=131_072,
        tie_word_embeddings=True,
        use_sliding_window=False,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
    )


def _llama() -> PreTrainedConfig:
    return LlamaConfig(
        vocab_size=128_256,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=131_072,
        tie_word_embeddings=False,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 500_000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    )


def _tiny() -> PreTrainedConfig:
    return Qwen2Config(
        vocab_size=_TOKENS,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        use_sliding_window=False,
    )


def _small() -> PreTrainedConfig:
    """A model whose answers depend on all that it sees, and say each token in words."""
    return Qwen2Config(
        vocab_size=_TOKENS,
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=12,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=32_768,
        tie_word_embeddings=False,
        use_sliding_window=False,
        initializer_range=0.06,
    )


SHAPES: Mapping[str, Callable[[], PreTrainedConfig]] = MappingProxyType(
    {
        "qwen2.5-0.5b": _small_qwen,
        "qwen2.5-3b": _qwen,
        "llama-3.1-8b": _llama,
        "small": _small,
        "tiny": _tiny,
    }
)
"""Configurations by name; `small` is for checks, `tiny` for trying a benchmark out."""


def random_model(name: str, device: str, dtype: torch.dtype) -> LocalModel:
    """Make a model of a shape in `SHAPES` where it will be used."""
    torch.manual_seed(0)
    config = SHAPES[name]()
    config.bos_token_id, config.eos_token_id = None, 0
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    return LocalModel(
        model=model.to(device).eval(), tokenizer=_tokenizer(), name=f"{name}, random weights"
    )


def landmark_adapter(local: LocalModel, interval_tokens: int) -> LandmarkAdapter:
    """Make landmark projections of random values; every head of every layer scores alike.

    A trained adapter looks at fewer: the question's pass may then end sooner.
    """
    shape = check_supported(local.model)
    selection = torch.ones(shape.layers, shape.q_heads, question_groups(0))
    return replace(
        random_adapter(shape, RANK),
        selection=selection / selection.sum(),
        interval_tokens=interval_tokens,
    )


def _tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(_SPECIAL),
        show_progress=False,
    )
    texts = (path.read_text(encoding="utf-8") for path in sorted(_DOCUMENTS.iterdir()))
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=_SPECIAL[0],
        pad_token=_SPECIAL[0],
        additional_special_tokens=list(_SPECIAL[1:]),
        chat_template=_TEMPLATE,
    )
