import pytest
import torch

from acre_rag.cache import KVBlock

SHAPE = (2, 3, 5, 4)


@pytest.fixture
def block(rng: torch.Generator) -> KVBlock:
    return KVBlock(torch.randn(SHAPE, generator=rng), torch.randn(SHAPE, generator=rng))


def test_slices_are_views_of_their_tokens(block: KVBlock) -> None:
    part = block.slice(1, 3)

    assert part.tokens == 2
    assert torch.equal(part.values, block.values[:, :, 1:3])
    assert part.keys.untyped_storage().data_ptr() == block.keys.untyped_storage().data_ptr()


def test_taken_tokens_come_in_the_order_asked(block: KVBlock) -> None:
    part = block.take(torch.tensor([4, 0]))

    assert torch.equal(part.keys[:, :, 0], block.keys[:, :, 4])
    assert torch.equal(part.values[:, :, 1], block.values[:, :, 0])


def test_pieces_join_to_what_they_were_cut_from(block: KVBlock) -> None:
    joined = KVBlock.concatenate([block.slice(0, 2), block.slice(2, 5)])

    assert torch.equal(joined.keys, block.keys)
    assert torch.equal(joined.values, block.values)


def test_a_cast_that_changes_nothing_gives_the_block_itself(block: KVBlock) -> None:
    assert block.to(dtype=torch.float32, device="cpu") is block
    assert block.to(dtype=torch.bfloat16, device="cpu").values.dtype == torch.bfloat16


def test_joining_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no block to join"):
        KVBlock.concatenate([])


@pytest.mark.parametrize(
    "values",
    [
        torch.zeros(2, 3, 5, 3),
        torch.zeros(SHAPE, dtype=torch.float16),
        torch.zeros(SHAPE, device="meta"),
    ],
    ids=["shape", "dtype", "device"],
)
def test_keys_and_values_that_differ_are_refused(values: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="expected equal shapes"):
        KVBlock(torch.zeros(SHAPE), values)


def test_a_batch_axis_is_refused() -> None:
    with pytest.raises(ValueError, match="with the axes"):
        KVBlock(torch.zeros(1, *SHAPE), torch.zeros(1, *SHAPE))
