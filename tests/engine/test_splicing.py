"""The engine's refilled cache against one masked forward over all documents that were asked."""

from collections.abc import Callable

import pytest
import torch

from acre_rag.cache import KVBlock
from acre_rag.engine import recall
from acre_rag.engine.arrivals import Arrivals
from acre_rag.model.decode import rotate_into_cache
from acre_rag.model.reader import DocumentReader
from acre_rag.request import Request
from tests.conftest import MakeEngine
from tests.engine.texts import ALL, QUESTION
from tests.reference import forward
from tests.reference.rows import Rows
from tests.tiny import tiny_settings


@pytest.mark.parametrize("most", [256, 3])
def test_several_documents_are_spliced_as_the_masked_forward_sees_them(
    make_engine: MakeEngine, most: int
) -> None:
    engine = make_engine(config=tiny_settings(most_landmarks=most))
    engine.ingest(ALL)
    reader, config = engine.reader, engine.config
    names = [document.id for document in reversed(ALL)]

    asked = engine._questioner.ask(
        Request(question=QUESTION, documents=tuple(names), refill_tokens=30)
    )
    refilled = engine._questioner.refill(asked)
    with torch.inference_mode():
        cache = rotate_into_cache(reader.local, reader.twin, refilled.cache)
        ours = reader.local.model(torch.tensor([asked.rows.ids]), past_key_values=cache).logits[0]

    rows = Rows(reader.frame.prefix_ids)
    read = [
        rows.document(
            reader.frame.encode_with_offsets(document.text)[0],
            interval=config.interval_tokens,
            window=config.window_tokens,
            segment=config.segment_tokens,
            memory="landmarks",
        )
        for document in reversed(ALL)
    ]
    chosen = [set(asked.chosen(number)) for number in range(len(ALL))]
    assert sum(bool(intervals) for intervals in chosen) > 1
    kept = _apart(asked.selection.landmarks.tolist(), [len(one.intervals) for one in read])
    assert sum(map(len, kept)) == refilled.landmarks
    left_out = sum(len(one.intervals) for one in read) - refilled.landmarks
    assert (left_out > 0) == (most == 3)
    answering = rows.follow(rows.spliced(read, chosen, kept=kept), asked.rows.ids)
    theirs = forward.run(reader.local.model, rows.rows, reader.twin.adapter)
    expected = theirs.logits[[numbers[0] for numbers, _ in answering]]
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_intervals_that_arrive_together_are_spliced_as_those_that_come_one_by_one(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    engine.ingest(ALL)
    asked = engine._questioner.ask(Request(question=QUESTION, refill_tokens=40))

    one_by_one = engine._questioner.refill(asked).cache
    # As many at once as a GPU is given.
    sizes: list[int] = []

    def arrivals(reader: DocumentReader, put: Callable[[list[int], KVBlock], None]) -> Arrivals:
        def noted(numbers: list[int], block: KVBlock) -> None:
            sizes.append(len(numbers))
            put(numbers, block)

        return Arrivals(reader.computed_together, noted, 2**23)

    monkeypatch.setattr(recall, "reader_arrivals", arrivals)
    together = engine._questioner.refill(asked).cache

    assert max(sizes) > 1
    assert one_by_one is not None
    assert together is not None
    assert torch.equal(one_by_one.taken.keys, together.taken.keys)
    assert torch.equal(one_by_one.taken.values, together.taken.values)


def _apart(intervals: list[int], counts: list[int]) -> list[set[int]]:
    """Count intervals of all documents within each."""
    firsts = [sum(counts[:number]) for number in range(len(counts))]
    return [
        {interval - first for interval in intervals if first <= interval < first + count}
        for first, count in zip(firsts, counts, strict=True)
    ]
