"""The ordinary way, beside the model called in one step."""

from pathlib import Path

import pytest
import torch

from acre_rag.model.local import LocalModel
from acre_rag.model.stock import (
    copied,
    gaps,
    generate_plainly,
    load_plainly,
    prefill_plainly,
    save_plainly,
)

IDS = list(range(5, 42))


@pytest.mark.parametrize("chunk_tokens", [1, 8, 37, 100])
def test_chunks_see_what_one_pass_sees(local: LocalModel, chunk_tokens: int) -> None:
    with torch.inference_mode():
        whole = local.model(input_ids=torch.tensor([IDS]), use_cache=True).past_key_values

    cache = prefill_plainly(local, IDS, chunk_tokens)

    assert cache.get_seq_length() == len(IDS)
    for ours, theirs in zip(cache.layers, whole.layers, strict=True):
        torch.testing.assert_close(ours.keys, theirs.keys, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours.values, theirs.values, rtol=1e-4, atol=1e-4)


def test_a_chunk_of_no_tokens_is_refused(local: LocalModel) -> None:
    with pytest.raises(ValueError, match="expected 1 or more"):
        prefill_plainly(local, IDS, 0)


def test_a_saved_cache_comes_back_bit_for_bit_and_answers_the_same(
    local: LocalModel, tmp_path: Path
) -> None:
    cache = prefill_plainly(local, IDS, 16)
    path = tmp_path / "cache.safetensors"

    size = save_plainly(cache, path)
    loaded = load_plainly(local, path)

    assert size == path.stat().st_size
    for ours, theirs in zip(loaded.layers, cache.layers, strict=True):
        torch.testing.assert_close(ours.keys, theirs.keys, rtol=0, atol=0)
        torch.testing.assert_close(ours.values, theirs.values, rtol=0, atol=0)
    assert generate_plainly(local, [9, 4], loaded, 6) == generate_plainly(
        local, [*IDS, 9, 4], None, 6
    )


def test_a_copy_grows_alone_and_every_token_is_told(local: LocalModel) -> None:
    cache = prefill_plainly(local, IDS, 16)
    told: list[float] = []

    new = generate_plainly(local, [3], copied(cache), 5, lambda: told.append(float(len(told))))

    assert cache.get_seq_length() == len(IDS)
    assert len(told) == len(new) > 0
    assert gaps(told) == [1.0] * (len(new) - 1)
