import pytest
import torch

from acre_rag.cache import KVBlock
from acre_rag.model.decode import decode, rotated_cache
from acre_rag.model.local import LocalModel
from acre_rag.model.reading import ReadingTwin

IDS = [5, 19, 120, 33]


@pytest.fixture
def twin(local: LocalModel) -> ReadingTwin:
    return ReadingTwin(local.model, None)


@pytest.fixture
def block(rng: torch.Generator) -> KVBlock:
    return KVBlock(torch.randn(3, 2, 7, 6, generator=rng), torch.randn(3, 2, 7, 6, generator=rng))


def test_the_length_of_the_cache_is_the_next_position(
    local: LocalModel, twin: ReadingTwin, block: KVBlock
) -> None:
    assert rotated_cache(local, twin, block).get_seq_length() == 7


@torch.inference_mode()
def test_pieces_join_to_what_stock_generation_gives(
    local: LocalModel, twin: ReadingTwin, block: KVBlock
) -> None:
    steps: list[int] = []

    pieces = list(decode(local, rotated_cache(local, twin, block), IDS, 9, lambda: steps.append(1)))

    plain = local.model.generate(
        torch.tensor([IDS]),
        past_key_values=rotated_cache(local, twin, block),
        attention_mask=torch.ones(1, 7 + len(IDS), dtype=torch.long),
        do_sample=False,
        max_new_tokens=9,
    )[0, len(IDS) :]
    assert "".join(pieces) == local.tokenizer.decode(plain, skip_special_tokens=True)
    assert len(steps) == len(plain)
