"""A tiny engine with a store of its own, for every integration."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from acre_rag import ACREConfig, ACREEngine, LocalModel

TEMPLATE = (
    "{% for m in messages %}<user>{{ m['content'] }}</user>{% endfor %}"
    "{% if add_generation_prompt %}<model>{% endif %}"
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, so that characters of other scripts and emoji span several tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: place for place, letter in enumerate(letters)}
    vocabulary |= {"<end>": len(vocabulary)}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>")
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@pytest.fixture(scope="session")
def local_model() -> LocalModel:
    """A random model that never ends an answer by itself."""
    tokenizer = byte_tokenizer()
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = LlamaForCausalLM(config).eval()
    return LocalModel(model=model, tokenizer=tokenizer, name="tiny-random-llama")


@pytest.fixture
def engine(local_model: LocalModel, tmp_path: Path) -> Iterator[ACREEngine]:
    """An engine over an empty store; intervals of 8 tokens, windows of 64."""
    config = ACREConfig(interval_tokens=8, window_tokens=64, segment_tokens=512)
    with ACREEngine(local_model, store=tmp_path / "store", config=config) as made:
        yield made
