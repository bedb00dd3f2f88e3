"""What training computes in batches is what the package computes for one question."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from acre_rag.cache import KVBlock
from acre_rag.model.landmarks import LandmarkAdapter
from acre_rag.model.local import LocalModel
from acre_rag.model.prefill import read_prefix, read_window
from acre_rag.model.question import question_queries
from acre_rag.model.question_rows import embed_questions, question_landmark_rows
from acre_rag.model.reading import ReadingTwin
from acre_rag.model.training_twin import LayeredReading, TrainingTwin
from acre_rag.refill import choose, mixture_scores, splice
from acre_rag.train.bank import (
    Bank,
    keep_landmarks,
    landmark_places,
    refilled_places,
    window_bank,
)
from acre_rag.train.scoring import batch_scores
from tests.tiny import CONTEXT, INTERVAL, LAYERS, Q_HEADS, VOCABULARY, tiny_adapter, tiny_local

CONTEXTS, DOCUMENTS, TOKENS, WINDOW, WINDOWS, PREFIX, ROWS = 2, 3, 28, 12, 3, 5, 7
INTERVALS = DOCUMENTS * TOKENS // INTERVAL
CLOSE = {"rtol": 1e-4, "atol": 1e-4}  # float32, sums in another order


class Scene(NamedTuple):
    """Documents read by training, and the same ones read one by one."""

    reading: ReadingTwin
    training: TrainingTwin
    bank: Bank
    prefix: KVBlock
    l1: list[list[KVBlock]]
    l2: list[KVBlock]
    rows: Tensor


def _one_by_one(twin: ReadingTwin, ids: Tensor, prefix: KVBlock) -> tuple[KVBlock, KVBlock]:
    l1: list[KVBlock] = []
    l2: list[KVBlock] = []
    for window in ids.split(WINDOW):
        block = KVBlock.concatenate([prefix, *l1])
        memory = twin.remember(block.keys[:, None], block.values[:, None])
        read = read_window(twin, window, memory, INTERVAL, landmarks=True)
        l1.append(read.l1)
        l2.append(read.l2)
    return KVBlock.concatenate(l1), KVBlock.concatenate(l2)


@pytest.fixture
def scene(family: str, rng: torch.Generator) -> Scene:
    local: LocalModel = tiny_local(family)
    adapter: LandmarkAdapter = tiny_adapter(local.model.config)
    prefix_ids = torch.randint(VOCABULARY, (PREFIX,), generator=rng)
    ids = torch.randint(VOCABULARY, (CONTEXTS, DOCUMENTS, TOKENS), generator=rng)
    rows = torch.randint(VOCABULARY, (CONTEXTS, ROWS), generator=rng)
    reading = ReadingTwin(local.model, adapter)
    with torch.no_grad():
        training = TrainingTwin(local.model, adapter, prefix_ids)
        padded = torch.nn.functional.pad(ids, (0, WINDOWS * WINDOW - TOKENS))
        windows = padded.view(CONTEXTS * DOCUMENTS, WINDOWS, WINDOW)
        read: LayeredReading = training.read_windows(windows, INTERVAL)
        shape = (CONTEXTS, DOCUMENTS, WINDOWS, WINDOW)
        bank = window_bank(training, read, shape, TOKENS, INTERVAL)
        prefix = read_prefix(reading, prefix_ids)
        alone = [[_one_by_one(reading, own, prefix) for own in context] for context in ids]
    l1 = [[pair[0] for pair in pairs] for pairs in alone]
    l2 = [KVBlock.concatenate([pair[1] for pair in pairs]) for pairs in alone]
    return Scene(reading, training, bank, prefix, l1, l2, rows)


def _gathered(bank: Bank, rows: Tensor) -> list[KVBlock]:
    layers = [bank.gather(layer, rows) for layer in range(LAYERS)]
    keys = torch.stack([keys for keys, _ in layers], dim=1)
    values = torch.stack([values for _, values in layers], dim=1)
    return [KVBlock(k, v) for k, v in zip(keys, values, strict=True)]


@torch.no_grad()
def test_all_windows_in_one_pass_give_what_they_give_one_after_the_other(scene: Scene) -> None:
    owner = torch.arange(CONTEXTS)

    ours = _gathered(scene.bank, scene.bank.rows_of(owner, landmark_places(scene.bank.places)))

    for found, landmarks in zip(ours, scene.l1, strict=True):
        theirs = KVBlock.concatenate([scene.prefix, *landmarks])
        torch.testing.assert_close(found.keys, theirs.keys, **CLOSE)
        torch.testing.assert_close(found.values, theirs.values, **CLOSE)


@torch.no_grad()
def test_plain_rows_are_read_as_the_model_reads_them(family: str, rng: torch.Generator) -> None:
    local = tiny_local(family)
    ids = torch.randint(VOCABULARY, (CONTEXTS, PREFIX + TOKENS), generator=rng)

    ours = TrainingTwin(local.model, None, ids[0, :PREFIX]).read_plain(ids)

    theirs = local.model.model(ids, use_cache=False).last_hidden_state
    torch.testing.assert_close(ours, theirs, **CLOSE)


@torch.no_grad()
def test_batched_scores_are_the_scores_of_each_question(scene: Scene, rng: torch.Generator) -> None:
    weights = torch.rand(LAYERS, Q_HEADS, 3, generator=rng)
    weights /= weights.sum()
    groups = [range(1, 4), range(4, ROWS), range(ROWS - 1, ROWS)]
    shares = torch.zeros(CONTEXTS, 3, ROWS + 2)
    for index, group in enumerate(groups):
        shares[:, index, group.start : group.stop] = 1 / len(group)
    padded = torch.nn.functional.pad(scene.rows, (0, 2))
    memory = scene.bank.rows_of(torch.arange(CONTEXTS), landmark_places(scene.bank.places))
    keys = [scene.bank.gather(layer, memory)[0][:, :, PREFIX:] for layer in range(LAYERS)]

    read = scene.training.read_rows(
        padded, memory.shape[1], lambda layer: scene.bank.gather(layer, memory)
    )
    scaling = scene.training.shape.scaling
    ours = batch_scores(read.queries, keys, shares, weights, scaling)

    for found, rows, segments in zip(ours, scene.rows, scene.l1, strict=True):
        [asked] = question_queries(
            scene.reading, [rows], prefix=scene.prefix, segments=segments, context_tokens=CONTEXT
        )
        theirs = mixture_scores(
            asked, [one.keys for one in segments], groups=groups, weights=weights, scaling=scaling
        )
        torch.testing.assert_close(found, theirs, **CLOSE)


@torch.no_grad()
def test_questions_with_landmarks_are_read_as_each_by_itself(
    family: str, rng: torch.Generator
) -> None:
    local = tiny_local(family)
    adapter = tiny_adapter(local.model.config, question_landmarks=3)
    prefix_ids = torch.randint(VOCABULARY, (PREFIX,), generator=rng)
    training = TrainingTwin(local.model, adapter, prefix_ids)
    reading = ReadingTwin(local.model, adapter)
    questions = [torch.randint(VOCABULARY, (count,), generator=rng) for count in (4, ROWS)]
    lengths = torch.tensor([len(ids) + 3 for ids in questions])
    width = ROWS + 3 + 2  # an answer's rows follow
    padded = torch.zeros(2, width, dtype=torch.long)
    for row, ids in zip(padded, questions, strict=True):
        row[: len(ids) - 1] = ids[:-1]
        row[len(ids) - 1 + 3] = ids[-1]

    ours = training.read_rows(
        padded,
        PREFIX,
        lambda layer: (
            training.prefix_keys[layer].expand(2, -1, -1, -1),
            training.prefix_values[layer].expand(2, -1, -1, -1),
        ),
        question_landmark_rows(lengths, 3, width),
    )

    prefix = read_prefix(reading, prefix_ids)
    memory = reading.remember(prefix.keys[:, None], prefix.values[:, None])
    for index, ids in enumerate(questions):
        asked = embed_questions(reading, [ids])
        theirs = reading.read(
            asked.embeddings, memory=memory, landmark_rows=asked.landmark_rows, keep_queries=True
        )
        count = len(ids) + 3
        torch.testing.assert_close(ours.states[index, :count], theirs.states[0], **CLOSE)
        assert theirs.queries is not None
        for layer in range(LAYERS):
            found = ours.queries[layer][index, :, :count]
            torch.testing.assert_close(found, theirs.queries[layer, 0], **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("others", [0, 5, INTERVALS])
def test_a_refilled_memory_is_the_splice_and_reads_the_same(scene: Scene, others: int) -> None:
    chosen = torch.tensor([[1, 6, 7, 20], [0, 3, 12, 13]])
    scores = torch.rand(CONTEXTS, INTERVALS)
    kept = keep_landmarks(scores, chosen, others)
    places = refilled_places(scene.bank.places, chosen, kept)
    rows = scene.bank.rows_of(torch.arange(CONTEXTS), places)

    ours = _gathered(scene.bank, rows)
    states = scene.training.read_rows(
        scene.rows, rows.shape[1], lambda layer: scene.bank.gather(layer, rows)
    ).states

    for context in range(CONTEXTS):
        picked = chosen[context]
        tokens = (picked[:, None] * INTERVAL + torch.arange(INTERVAL)).flatten()
        selection = choose(
            scores[context].index_fill(0, picked, 2),
            lengths=torch.full((INTERVALS,), INTERVAL),
            most_landmarks=others,
            free_tokens=CONTEXT,
            refill_tokens=len(picked) * INTERVAL,
        )
        landmarks = KVBlock.concatenate(scene.l1[context])
        theirs = splice(
            scene.prefix,
            [landmarks.take(selection.landmarks)],
            selection.landmarks,
            [scene.l2[context].take(tokens)],
            picked.repeat_interleave(INTERVAL),
        ).taken
        torch.testing.assert_close(ours[context].keys, theirs.keys, **CLOSE)
        memory = scene.reading.remember(theirs.keys[:, None], theirs.values[:, None])
        read = scene.reading.read(scene.reading.embed(scene.rows[context][None]), memory=memory)
        torch.testing.assert_close(states[context], read.states[0], rtol=1e-3, atol=1e-3)
