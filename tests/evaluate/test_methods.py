"""Batched answers are those of the engine and of the plain model, one by one."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from acre_rag.engine import ACREEngine
from acre_rag.errors import BudgetError, ConfigError
from acre_rag.evaluate.composing import ComposedDocument
from acre_rag.evaluate.dataset import Question
from acre_rag.evaluate.documents import OpenDocument
from acre_rag.evaluate.methods import METHODS, Readers, make_methods
from acre_rag.evaluate.prompts import Prompt, joined, recalls_evidence
from acre_rag.evaluate.refilling import Refilling, learned
from acre_rag.evaluate.retrieval import Retrieval
from acre_rag.evaluate.run import Evaluation, Row
from acre_rag.model.batched import answer_batch
from acre_rag.model.landmarks import LandmarkAdapter
from acre_rag.model.local import LocalModel
from acre_rag.text.document import Document
from acre_rag.text.word_search import bm25_index
from tests.tiny import tiny_settings

BUDGET, NEW_TOKENS, CHUNK = 20, 7, 8


def _open(document: ComposedDocument, readers: Readers, tokens: int = NEW_TOKENS) -> OpenDocument:
    return OpenDocument(document, free=readers.free, trained=readers.trained, max_new_tokens=tokens)


def _prompts(name: str, opened: OpenDocument, readers: Readers, budget: int) -> list[Prompt]:
    (method,) = make_methods([name], readers, chunk_tokens=CHUNK)
    found = method.prompts(opened, budget)
    assert all(prompt is not None for prompt in found)
    return found  # type: ignore[return-value]


def _answers(readers: Readers, prompts: Sequence[Prompt]) -> list[str]:
    local = readers.free.local
    return answer_batch(local, [prompt.remembered for prompt in prompts], NEW_TOKENS)


def _plainly(local: LocalModel, ids: list[int]) -> str:
    """Answer by the model's own forward pass, without any cache."""
    length = len(ids)
    for _ in range(NEW_TOKENS):
        with torch.inference_mode():
            token = int(local.model(torch.tensor([ids])).logits[0, -1].argmax())
        if token == local.model.generation_config.eos_token_id:
            break
        ids = [*ids, token]
    return str(local.tokenizer.decode(ids[length:], skip_special_tokens=True)).strip()


@pytest.mark.parametrize("name", ["acre", "acre-published", "acre-training-free", "landmarks-only"])
@pytest.mark.parametrize("context", [640, 118])  # all landmarks at once, or segment by segment
def test_batched_answers_and_sources_are_the_engines_own(
    composed: list[ComposedDocument],
    local: LocalModel,
    adapter: LandmarkAdapter,
    tmp_path: Path,
    name: str,
    context: int,
) -> None:
    selection = "published" if name == "acre-published" else "learned"
    settings = tiny_settings(selection=selection, context_tokens=context)
    readers = Readers.over(local, adapter, settings)
    budget = 0 if name == "landmarks-only" else BUDGET
    engine_adapter = "none" if name == "acre-training-free" else adapter
    with ACREEngine(local, engine_adapter, tmp_path / "store", settings) as engine:
        for document in composed:
            engine.ingest([Document(id=document.id, text=document.text)])

            prompts = _prompts(name, _open(document, readers), readers, BUDGET)
            ours = _answers(readers, prompts)

            for question, prompt, answer in zip(document.questions, prompts, ours, strict=True):
                theirs = engine.ask(
                    question.text, [document.id], refill_tokens=budget, max_new_tokens=NEW_TOKENS
                )
                assert answer == theirs.text
                assert prompt.spans == tuple((s.start, s.end) for s in theirs.sources)
                assert prompt.refilled_tokens == theirs.usage.refilled_tokens


def test_the_full_text_is_answered_as_the_plain_model_answers(
    composed: list[ComposedDocument], readers: Readers
) -> None:
    frame, local = readers.free.frame, readers.free.local
    opened = _open(composed[0], readers)

    ours = _answers(readers, _prompts("full", opened, readers, BUDGET))

    for answer, rows in zip(ours, opened.rows, strict=True):
        ids = [*frame.prefix_ids, *composed[0].tokens.ids.tolist(), *rows.ids]
        assert answer == _plainly(local, ids)


def test_a_text_over_the_context_is_cut_in_the_middle_and_counted(
    composed: list[ComposedDocument], local: LocalModel
) -> None:
    readers = Readers.over(local, None, tiny_settings(context_tokens=110))
    document = composed[0]
    opened = _open(document, readers)

    prompts = _prompts("full", opened, readers, BUDGET)

    longest = max(prompt.remembered.tokens for prompt in prompts)
    assert longest + NEW_TOKENS == 110
    assert all(prompt.cut for prompt in prompts)
    (start, head), (tail, end) = prompts[0].spans or ()
    assert (start, end) == (0, len(document.text))
    assert head < tail


def test_snapkv_with_room_for_everything_is_the_full_text(
    composed: list[ComposedDocument], readers: Readers
) -> None:
    opened = _open(composed[0], readers)

    full = _answers(readers, _prompts("full", opened, readers, 0))
    everything = _prompts("snapkv", opened, readers, 10_000)

    assert _answers(readers, everything) == full


def test_snapkv_keeps_the_budget_in_every_head_at_the_distances_of_the_text(
    composed: list[ComposedDocument], readers: Readers
) -> None:
    opened = _open(composed[0], readers)
    prefix, twin = readers.free.prefix.tokens, readers.free.twin

    prompt = _prompts("snapkv", opened, readers, BUDGET)[0]

    block = opened.plain
    assert prompt.remembered.keys.shape[2] == prefix + BUDGET
    assert prompt.refilled_tokens == BUDGET
    shift = block.tokens - prefix - BUDGET
    moved = twin.rotate(block.keys[:, None], torch.arange(block.tokens) - shift)[:, 0]
    for layer in range(block.keys.shape[0]):
        for head in range(block.keys.shape[1]):
            known = {tuple(row.tolist()) for row in moved[layer, head]}
            assert {tuple(row.tolist()) for row in prompt.remembered.keys[layer, head]} <= known


def test_snapkv_keeps_the_same_for_a_question_whatever_others_are_asked(
    composed: list[ComposedDocument], readers: Readers
) -> None:
    together = _prompts("snapkv", _open(composed[0], readers), readers, BUDGET)

    for question, prompt in zip(composed[0].questions, together, strict=True):
        alone = replace(composed[0], questions=(question,))
        (own,) = _prompts("snapkv", _open(alone, readers), readers, BUDGET)
        torch.testing.assert_close(prompt.remembered.keys, own.remembered.keys)
        torch.testing.assert_close(prompt.remembered.values, own.remembered.values)


def test_retrieved_chunks_are_text_before_the_question(
    composed: list[ComposedDocument], readers: Readers
) -> None:
    document, frame = composed[0], readers.free.frame
    opened = _open(document, readers)

    prompts = _prompts("rag-bm25", opened, readers, 3 * CHUNK)
    ours = _answers(readers, prompts)

    for prompt, answer, rows in zip(prompts, ours, opened.rows, strict=True):
        assert prompt.refilled_tokens <= 3 * CHUNK
        shown = "\n".join(document.text[a:b] for a, b in prompt.spans or ())
        ids = [*frame.prefix_ids, *frame.encode_with_offsets(shown)[0], *rows.ids]
        assert frame.prefix_ids + prompt.remembered.ids == ids
        assert answer == _plainly(readers.free.local, ids)


@pytest.mark.parametrize(("told", "expected"), [(None, "false"), ("true", "true")])
def test_word_search_leaves_a_gpus_memory_to_the_model_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, told: str | None, expected: str
) -> None:
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", told or "")
    if told is None:
        monkeypatch.delenv("XLA_PYTHON_CLIENT_PREALLOCATE")

    bm25_index(["a word"])

    assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == expected


def test_word_search_finds_the_chunk_that_has_the_words() -> None:
    rank = bm25_index(["the ferry leaves", "a mill grinds barley", "keys hang here"])

    assert np.argmax(rank(["Which mill has barley?", "Whose keys?"]), axis=1).tolist() == [1, 2]


@pytest.mark.parametrize("chunks", [["the a of"], [""], ["the", "mill wheel"]])
def test_word_search_takes_chunks_and_questions_without_words(chunks: list[str]) -> None:
    assert bm25_index(chunks)(["the of", "mill"]).shape == (2, len(chunks))


def test_a_budget_below_one_chunk_is_refused(
    composed: list[ComposedDocument], readers: Readers
) -> None:
    method = Retrieval("rag-bm25", bm25_index, CHUNK)

    with pytest.raises(ConfigError, match="chunk"):
        method.prompts(_open(composed[0], readers), CHUNK - 1)


def test_the_oracle_always_has_the_gold_evidence(
    composed: list[ComposedDocument], readers: Readers
) -> None:
    (method,) = make_methods(["oracle"], readers)

    for document in composed:
        prompts = method.prompts(_open(document, readers), BUDGET)
        for question, prompt in zip(document.questions, prompts, strict=True):
            if not question.occurrences and not question.evidence:
                assert prompt is None
            elif question.occurrences:
                assert prompt is not None
                assert recalls_evidence(question, prompt.spans)


def test_a_document_shorter_than_a_window_is_asked_like_any_other(readers: Readers) -> None:
    from acre_rag.evaluate.composing import Sampling, compose
    from acre_rag.evaluate.dataset import QADocument

    question = Question(id="q", text="Who?", answers=("Al",), occurrences=((0, 2),))
    short = QADocument(id="d", text="Al.", questions=(question,))
    (document,) = compose([short], readers.free.frame, Sampling())

    rows = _evaluation([document], readers, budgets=[BUDGET]).rows()

    assert {row.method for row in rows} == set(METHODS) - {"rag-dense"}
    for row in rows:
        sees_text = row.method not in ("landmarks-only", "snapkv")
        assert row.recalled is (True if sees_text else None if row.method == "snapkv" else False)


def test_every_way_answers_every_question_once_whatever_the_batch(
    composed: list[ComposedDocument], readers: Readers
) -> None:
    budgets = [12, 24]

    small = _evaluation(composed, readers, budgets, batch_tokens=1).rows()
    large = _evaluation(composed, readers, budgets, batch_tokens=10_000).rows()

    assert [_key(row) for row in small] == [_key(row) for row in large]
    keys = [(row.method, row.budget, row.question.id) for row in large]
    assert len(keys) == len(set(keys))
    assert {row.budget for row in large if row.method == "full"} == {0}
    assert {row.budget for row in large if row.method == "acre"} == set(budgets)
    assert all(row.scores for row in large)


def test_a_budget_that_does_not_fit_the_context_is_refused(
    composed: list[ComposedDocument], readers: Readers
) -> None:
    method = Refilling(name="acre", rule=learned)
    room = readers.free.context_tokens - 200

    with pytest.raises(BudgetError, match="lower"):
        method.prompts(_open(composed[0], readers, tokens=room), 10_000)


def test_methods_that_are_not_there_are_refused(readers: Readers, local: LocalModel) -> None:
    with pytest.raises(ConfigError, match="method is 'acer'"):
        make_methods(["acer"], readers)
    with pytest.raises(ConfigError, match="landmark adapter"):
        make_methods(["acre"], Readers.over(local, None, tiny_settings()))
    with pytest.raises(ConfigError, match="no method"):
        make_methods([], readers)


def test_every_usable_method_is_timed(composed: list[ComposedDocument], readers: Readers) -> None:
    evaluation = _evaluation(composed, readers, [BUDGET], timed_questions=1)

    times = evaluation.first_token_ms()

    assert set(times) == set(METHODS) - {"rag-dense", "oracle"}
    assert all(time > 0 for time in times.values())


def test_evidence_lies_in_one_run_or_not_at_all() -> None:
    question = Question(id="q", text="Q?", answers=("x",), occurrences=((4, 9), (20, 22)))

    assert recalls_evidence(question, joined([(0, 5), (5, 9)]))
    assert not recalls_evidence(question, joined([(0, 5), (6, 9)]))
    assert recalls_evidence(question, [(19, 30)])
    assert recalls_evidence(Question(id="q", text="Q?", answers=("x",)), [(0, 9)]) is None
    assert recalls_evidence(question, None) is None


def _evaluation(
    documents: Sequence[ComposedDocument],
    readers: Readers,
    budgets: Sequence[int],
    batch_tokens: int = 500,
    timed_questions: int = 0,
) -> Evaluation:
    names = [name for name in METHODS if name != "rag-dense"]  # it needs a model of its own
    return Evaluation(
        readers=readers,
        documents=documents,
        methods=make_methods(names, readers, chunk_tokens=CHUNK),
        budgets=budgets,
        max_new_tokens=NEW_TOKENS,
        batch_tokens=batch_tokens,
        timed_questions=timed_questions,
    )


def _key(row: Row) -> tuple[str, int, str, str, bool | None]:
    return row.method, row.budget, row.question.id, row.answer, row.recalled
