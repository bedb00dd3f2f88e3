"""Sentence vectors, on a tiny encoder."""

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from acre_rag.errors import ModelError
from acre_rag.evaluate.retrieval import dense_index
from acre_rag.model.sentences import SentenceEncoder
from tests.tiny import VOCABULARY, tiny_tokenizer

CPU = torch.device("cpu")


@pytest.fixture
def encoder(tmp_path: Path) -> SentenceEncoder:
    """A random encoder, saved and loaded."""
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=12,
        intermediate_size=20,
        num_hidden_layers=2,
        num_attention_heads=3,
    )
    BertModel(config).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    return SentenceEncoder.load(tmp_path, CPU)


def test_a_vector_does_not_depend_on_its_neighbours(encoder: SentenceEncoder) -> None:
    texts = ["the mill", "a ferry that leaves at nine from the old harbour"]

    together = encoder.encode(texts)

    torch.testing.assert_close(together, torch.cat([encoder.encode([text]) for text in texts]))
    torch.testing.assert_close(together.norm(dim=1), torch.ones(2))


def test_the_chunk_that_is_the_question_ranks_first(encoder: SentenceEncoder) -> None:
    chunks = ["the mill grinds", "when does the ferry leave?", "keys and tides"]

    rank = dense_index(encoder)(chunks)

    assert rank(chunks).argmax(axis=1).tolist() == [0, 1, 2]


def test_a_directory_without_an_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="sentence model"):
        SentenceEncoder.load(tmp_path / "none", CPU)
