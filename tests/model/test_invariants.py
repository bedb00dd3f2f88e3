"""What makes the library right, for every family: each promise against a dumb oracle.

Tolerances are relative to the size of what is compared. float32: sums are taken in another order,
measured at 1e-6 or less. bfloat16: the oracle computes in float32 from the same rounded weights; a
rounding is off by up to 0.4 %, and three layers of random weights make up to 4 % of that. What
would be wrong is off by a third and more (the last test here).
"""

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from acre_rag.model.decode import rotated_cache
from acre_rag.model.local import LocalModel
from acre_rag.model.reader import DocumentReader
from tests.conftest import FindLocal
from tests.model.scenario import CHOSEN, FIRST, QUESTION, Scenario, distance, scenario
from tests.reference import forward
from tests.reference.rows import Rows
from tests.tiny import tiny_adapter, tiny_settings

TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 6e-2}
NEW_TOKENS = 4


@pytest.fixture(params=list(TOLERANCES), ids=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


READINGS = [
    pytest.param(torch.float32, "landmarks", id="float32-landmarks"),
    pytest.param(torch.bfloat16, "landmarks", id="bfloat16-landmarks"),
    pytest.param(torch.float32, "pooled", id="float32-pooled"),
    pytest.param(torch.float32, "exact", id="float32-exact"),
]


def _rows(layers: list[Tensor], rows: list[int]) -> Tensor:
    return torch.stack(layers)[:, :, rows]


@torch.inference_mode()
def _greedy(local: LocalModel, ids: list[int], cache: DynamicCache | None = None) -> list[int]:
    """Stock generation of a few tokens, on after `ids` alone or behind a cache."""
    length = len(ids) + (cache.get_seq_length() if cache is not None else 0)
    out = local.model.generate(
        torch.tensor([ids]),
        past_key_values=cache,
        attention_mask=torch.ones(1, length, dtype=torch.long),
        do_sample=False,
        max_new_tokens=NEW_TOKENS,
        min_new_tokens=NEW_TOKENS,
    )
    return out[0, len(ids) :].tolist()


# 1


def test_one_window_without_landmarks_wholly_refilled_is_the_plain_forward(
    find_local: FindLocal, family: str, dtype: torch.dtype
) -> None:
    local = find_local(family, dtype)
    reader = DocumentReader(local, None, tiny_settings(window_tokens=32, segment_tokens=32))
    layout = reader.layout(len(FIRST))
    whole = [*reader.frame.prefix_ids, *FIRST, *QUESTION]

    ((_, window),) = reader.read(torch.tensor(FIRST).numpy(), layout, range(1), lambda _: None)
    block = window.l2.concatenate([reader.prefix, window.l2])
    with torch.inference_mode():
        cache = rotated_cache(local, reader.twin, block)
        ours = local.model(torch.tensor([QUESTION]), past_key_values=cache).logits[0]
        plain = local.model(torch.tensor([whole])).logits[0, -len(QUESTION) :]

    assert distance(ours, plain) < TOLERANCES[dtype]


def test_one_window_without_landmarks_gives_the_greedy_tokens_of_the_full_text(
    find_local: FindLocal, family: str
) -> None:
    local = find_local(family, torch.float32)
    reader = DocumentReader(local, None, tiny_settings(window_tokens=32, segment_tokens=32))
    layout = reader.layout(len(FIRST))
    whole = [*reader.frame.prefix_ids, *FIRST, *QUESTION]

    ((_, window),) = reader.read(torch.tensor(FIRST).numpy(), layout, range(1), lambda _: None)
    with torch.inference_mode():
        block = window.l2.concatenate([reader.prefix, window.l2])
        cache = rotated_cache(local, reader.twin, block)

    assert _greedy(local, QUESTION, cache) == _greedy(local, whole)


# 2


@pytest.mark.parametrize(("dtype", "memory"), READINGS)
def test_window_by_window_prefill_is_one_masked_forward(
    family: str, dtype: torch.dtype, memory: str
) -> None:
    ours = scenario(family, dtype, memory)

    for number, read in enumerate(ours.documents):
        block = ours.l2(number)
        keys = _rows(ours.theirs.keys, read.tokens)
        assert distance(block.keys, keys) < TOLERANCES[dtype]
        values = _rows(ours.theirs.values, read.tokens)
        assert distance(block.values, values) < TOLERANCES[dtype]


def test_landmarks_of_every_window_are_those_of_one_masked_forward(
    family: str, dtype: torch.dtype
) -> None:
    ours = scenario(family, dtype)

    for number, read in enumerate(ours.documents):
        block = ours.l1(number)
        assert distance(block.keys, _rows(ours.theirs.keys, read.landmarks)) < TOLERANCES[dtype]
        values = _rows(ours.theirs.values, read.landmarks)
        assert distance(block.values, values) < TOLERANCES[dtype]


@pytest.mark.parametrize("name", ["llama", "phi3", "qwen2"])
def test_full_landmark_projections_are_those_of_one_masked_forward(name: str) -> None:
    ours = scenario(name, torch.float32, kind="full")

    block = ours.l1(0)

    expected = _rows(ours.theirs.keys, ours.documents[0].landmarks)
    assert distance(block.keys, expected) < TOLERANCES[torch.float32]


@pytest.mark.parametrize("memory", ["pooled", "exact"])
def test_pooled_landmarks_are_the_means_of_their_intervals(memory: str) -> None:
    ours = scenario("llama", torch.float32, memory)

    for interval, rows in enumerate(ours.documents[0].intervals):
        mean = sum(torch.stack(ours.theirs.keys)[:, :, row] for row in rows) / len(rows)
        assert distance(ours.l1(0).keys[:, :, interval], mean) < TOLERANCES[torch.float32]


def test_a_new_segment_remembers_nothing_but_the_prefix(local: LocalModel) -> None:
    reader = DocumentReader(local, tiny_adapter(local.model.config), tiny_settings())
    segment = reader.config.segment_tokens
    after_others = scenario("llama", torch.float32).ours[0][2]

    alone = FIRST[segment:]
    ((_, window),) = reader.read(
        torch.tensor(alone).numpy(), reader.layout(len(alone)), range(1), lambda _: None
    )

    assert torch.equal(window.l1.keys, after_others.l1.keys)
    assert torch.equal(window.l2.values, after_others.l2.values)


def test_a_question_over_all_landmarks_has_the_queries_of_one_masked_forward(
    family: str, dtype: torch.dtype
) -> None:
    ours = scenario(family, dtype)
    reader = ours.reader
    rows = reader.frame.question_rows("x")
    asked = type(rows)(ids=QUESTION, question=range(1), tail=range(1, len(QUESTION)))

    [[first, second]] = reader.queries([asked], [ours.l1(0), ours.l1(1)])

    assert torch.equal(first, second)
    assert distance(first, _rows(ours.theirs.queries, ours.asking)) < TOLERANCES[dtype]


# 3 and 4


@pytest.mark.parametrize(("dtype", "memory"), READINGS)
def test_decoding_over_the_spliced_cache_is_the_forward_with_the_rest_masked_out(
    family: str, dtype: torch.dtype, memory: str
) -> None:
    ours = scenario(family, dtype, memory)

    logits = ours.logits(CHOSEN, QUESTION)

    assert distance(logits, ours.theirs.logits[ours.answering]) < TOLERANCES[dtype]


def test_greedy_tokens_over_the_spliced_cache_are_those_of_the_masked_forward(
    family: str,
) -> None:
    ours = scenario(family, torch.float32)
    with torch.inference_mode():
        cache = rotated_cache(ours.local, ours.reader.twin, ours.spliced(CHOSEN))

    assert _greedy(ours.local, QUESTION, cache) == _masked_greedy(ours)


def _masked_greedy(ours: Scenario) -> list[int]:
    """One masked forward over everything for each new token; the tiny model's end is no end."""
    ids: list[int] = []
    adapter = ours.reader.twin.adapter
    rows, documents = Rows(ours.reader.frame.prefix_ids), []
    for part in (FIRST, [(5 * place + 3) % 270 for place in range(10)]):
        documents.append(rows.document(part, interval=4, window=12, segment=24, memory="landmarks"))
    before = len(rows.rows)
    for _ in range(NEW_TOKENS):
        del rows.rows[before:]
        rows.follow(rows.spliced(documents, list(CHOSEN)), QUESTION + ids)
        last = forward.run(ours.local.model, rows.rows, adapter).logits[-1].clone()
        last[ours.local.model.config.eos_token_id] = -torch.inf
        ids.append(int(last.argmax()))
    return ids


def test_budget_0_leaves_the_landmarks_alone(family: str, dtype: torch.dtype) -> None:
    ours = scenario(family, dtype)

    logits = ours.logits((set(), set()), QUESTION)

    assert distance(logits, ours.theirs.logits[ours.answering_bare]) < TOLERANCES[dtype]


# The tolerances mean something


def test_what_is_wrong_is_far_outside_the_tolerances() -> None:
    ours = scenario("llama", torch.float32)
    bare = ours.logits((set(), set()), QUESTION)
    other = ours.logits(({0, 4, 7}, {2}), QUESTION)

    for wrong in (bare, other):
        assert distance(wrong, ours.theirs.logits[ours.answering]) > 0.3
