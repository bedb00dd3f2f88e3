"""Packs and batches say truly where the evidence of a question lies."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from acre_rag.config import Prompt
from acre_rag.errors import DocumentError
from acre_rag.model.local import LocalModel
from acre_rag.model.prompt import PromptFrame
from acre_rag.train.batches import IGNORED, QuestionSteps, StepShape, collate
from acre_rag.train.composing import Composer
from acre_rag.train.packs import QuestionPack, load_texts, save_texts
from acre_rag.train.prepare import pack_questions, pack_texts
from tests.train.data import INTERVAL, articles, make_pack, make_setup, write_lines


@pytest.fixture
def pack(tmp_path: Path, local: LocalModel) -> QuestionPack:
    return make_pack(tmp_path, local)


def test_a_pack_is_the_same_after_saving(pack: QuestionPack, tmp_path: Path) -> None:
    pack.save(tmp_path / "pack")

    loaded = QuestionPack.load(tmp_path / "pack")

    assert [row.tolist() for row in loaded.rows] == [row.tolist() for row in pack.rows]
    np.testing.assert_array_equal(loaded.evidence, pack.evidence)


def test_pieces_joined_are_the_document(pack: QuestionPack, local: LocalModel) -> None:
    first = [pack.pieces[i] for i in np.flatnonzero(pack.piece_document == 0)]

    text = local.tokenizer.decode(np.concatenate(first).tolist())

    assert text == articles()[0]["context"]


@pytest.mark.parametrize("kind", ["in_order", "mixed"])
def test_gold_spans_of_a_composed_document_spell_the_answer(
    kind: str, pack: QuestionPack, local: LocalModel
) -> None:
    compose = getattr(Composer(pack), kind)
    rng = np.random.default_rng(3)
    seen = 0
    for _ in range(20):
        document = compose(rng, 240)
        assert len(document.ids) == 240
        for asked in document.questions:
            start, end = asked.spans[0]
            found = local.tokenizer.decode(document.ids[start:end].tolist())
            answer = local.tokenizer.decode(pack.answers[asked.index].tolist())
            assert answer in found
            seen += 1
    assert seen > 40


def test_the_same_step_gives_the_same_batch_and_another_one_another(pack: QuestionPack) -> None:
    setup = make_setup()
    shape = StepShape(contexts=2, documents=1, tokens=96, questions=4, weight=1.0, refill_tokens=16)
    settings = setup.settings

    once, again = (QuestionSteps({"squad": pack}, [shape], settings, seed=5) for _ in range(2))

    torch.testing.assert_close(once[3].ids, again[3].ids)
    torch.testing.assert_close(once[3].rows, again[3].rows)
    assert not torch.equal(once[3].ids, once[4].ids)


def test_a_batch_marks_gold_intervals_answers_and_question_groups(pack: QuestionPack) -> None:
    setup = make_setup()
    document = Composer(pack).from_start(0, 96)
    rng = np.random.default_rng(0)

    batch = collate(
        pack, [[document.ids]], document.questions, [0] * len(document.questions),
        setup.settings, refill_tokens=16, rng=rng,
    )  # fmt: skip

    torch.testing.assert_close(batch.gold.sum(1), torch.ones(len(document.questions)))
    torch.testing.assert_close(batch.groups.sum(2), torch.ones(len(document.questions), 3))
    for i, asked in enumerate(document.questions):
        start, end = asked.spans[0]
        gold = set(range(start // INTERVAL, -(-end // INTERVAL)))
        assert set(batch.gold[i].nonzero().flatten().tolist()) == gold
        length = int(batch.row_lengths[i])
        wanted = [*pack.answers[asked.index].tolist(), setup.settings.eos_id]
        targets = batch.targets[i][batch.targets[i] != IGNORED].tolist()
        assert targets == wanted
        assert batch.rows[i, length : length + len(wanted) - 1].tolist() == wanted[:-1]
        assert batch.groups[i, 2].nonzero().tolist() == [[length - 1]]


def test_a_question_of_another_document_is_answered_with_a_refusal(pack: QuestionPack) -> None:
    setup = make_setup()
    shape = StepShape(contexts=2, documents=1, tokens=96, questions=3, weight=1.0, refill_tokens=16)
    settings = replace(setup.settings, unanswerable=1.0)

    batch = QuestionSteps({"squad": pack}, [shape], settings, seed=0)[0]

    assert not batch.gold.any()
    refusal = [*settings.refusals[0], settings.eos_id]
    assert batch.targets.tolist() == [refusal] * 6


def test_evidence_of_several_sections_is_kept_only_where_it_stands_together(
    tmp_path: Path, local: LocalModel
) -> None:
    story = {
        "id": "s",
        "context": "\n\n".join(f"Section {i} tells of many things." for i in range(6)),
        "qas": [{"id": "q", "question": "What?", "answers": ["no such words"], "sections": [2, 3]}],
    }
    frame = PromptFrame(local.tokenizer, Prompt())
    path = write_lines(tmp_path / "story.jsonl.gz", [story])
    pack, _ = pack_questions(path, frame, answer_tokens=24)
    composer = Composer(pack)
    lengths = pack.pieces.lengths.tolist()

    together = composer.of_pieces([0, 2, 3], sum(lengths[i] for i in (0, 2, 3)), None)
    apart = composer.of_pieces([2, 0, 3], sum(lengths[i] for i in (0, 2, 3)), None)

    (asked,) = together.questions
    assert asked.spans == ((lengths[0], lengths[0] + lengths[2] + lengths[3]),)
    assert not asked.exact
    assert apart.questions == []


def test_texts_leave_out_or_take_the_last_ones(tmp_path: Path, local: LocalModel) -> None:
    lines: list[dict[str, object]] = [{"id": str(i), "text": "x" * (i + 1)} for i in range(5)]
    path = write_lines(tmp_path / "texts.jsonl.gz", lines)
    frame = PromptFrame(local.tokenizer, Prompt())

    save_texts(pack_texts([path], frame, skip_last=2), tmp_path / "kept")
    last = pack_texts([path], frame, only_last=2)

    assert load_texts(tmp_path / "kept").lengths.tolist() == [1, 2, 3]
    assert last.lengths.tolist() == [4, 5]


def test_a_malformed_line_is_named(tmp_path: Path, local: LocalModel) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text('{"id": "a", "text": "fine"}\n{"id": \n')

    with pytest.raises(DocumentError, match="line 2"):
        pack_texts([path], PromptFrame(local.tokenizer, Prompt()))


def test_a_file_that_is_no_pack_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pack").write_bytes(b"no")

    with pytest.raises(DocumentError, match="prepare"):
        QuestionPack.load(tmp_path / "pack")
