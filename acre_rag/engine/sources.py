"""Chosen intervals to sources: maximal runs, and as many of them as were asked for."""

from collections.abc import Sequence

from acre_rag.answer import Source
from acre_rag.store.manifest import Manifest


def find_sources(
    documents: Sequence[tuple[Manifest, Sequence[int], Sequence[float]]], count: int | None
) -> tuple[Source, ...]:
    """Turn chosen intervals into sources, in document order.

    Args:
        documents: Of each document asked: its manifest, its chosen intervals, rising, and the
            scores of all its intervals.
        count: Number of sources wanted. Too many runs: the best-scoring stay. Too few: the
            longest are split in two at an interval, as long as any has two. `None`: all runs.
    """
    runs = [
        (manifest, run, scores) for manifest, chosen, scores in documents for run in _runs(chosen)
    ]
    if count is not None:
        while 0 < len(runs) < count and max(len(run) for _, run, _ in runs) > 1:
            longest = max(range(len(runs)), key=lambda index: len(runs[index][1]))
            manifest, run, scores = runs[longest]
            middle = len(run) // 2
            halves = [(manifest, run[:middle], scores), (manifest, run[middle:], scores)]
            runs[longest : longest + 1] = halves
        ranked = sorted(range(len(runs)), key=lambda i: _score(runs[i][1], runs[i][2]))
        best = set(ranked[max(len(runs) - count, 0) :])
        runs = [run for index, run in enumerate(runs) if index in best]
    return tuple(_source(manifest, run, scores) for manifest, run, scores in runs)


def _runs(chosen: Sequence[int]) -> list[range]:
    runs: list[range] = []
    for interval in chosen:
        if runs and runs[-1].stop == interval:
            runs[-1] = range(runs[-1].start, interval + 1)
        else:
            runs.append(range(interval, interval + 1))
    return runs


def _score(run: range, scores: Sequence[float]) -> float:
    return sum(scores[run.start : run.stop])


def _source(manifest: Manifest, run: range, scores: Sequence[float]) -> Source:
    start = manifest.interval_starts[run.start]
    end = manifest.interval_ends[run.stop - 1]
    return Source(
        document=manifest.document_id,
        start=start,
        end=end,
        text=manifest.text[start:end],
        score=_score(run, scores),
    )
