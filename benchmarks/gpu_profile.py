"""What stands between a GPU and its limit: launches, waits and the longest operations, by stage.

Each stage of a warm question, and encoding, is timed by itself, then run once more under PyTorch's
profiler, which slows the host down: seconds are those without it.
"""

import statistics
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from acre_rag.bench.scene import Scene, Subject
from acre_rag.engine import ACREEngine
from acre_rag.engine.asked import Asked, Refilled
from acre_rag.engine.stream import AnswerStream
from acre_rag.model.decode import Watch, generate_greedily, rotate_into_cache
from acre_rag.request import Request

Facts = dict[str, float | int | str | None]

_LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch")
_WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
_COPIES = ("cudaMemcpyAsync", "cudaMemcpy")
_TIMES = 3
_LONGEST = 8
_ENCODED_WINDOWS = 8


def profiled(scene: Scene) -> Facts:
    """Profile the stages of a warm question, then encoding."""
    facts: Facts = {}
    (tokens,) = scene.sizes.tokens
    with scene.opened(scene.folder / "profile") as engine:
        subject = Subject.made(engine, tokens)
        engine.ingest(subject.document)
        engine.ask(next(subject.questions), [subject.id], max_new_tokens=1)
        _question(engine, subject, facts, scene.sizes.new_tokens)
        short = Subject.made(engine, _ENCODED_WINDOWS * scene.config.window_tokens, "short")

        def encode() -> None:
            engine.delete(short.id)
            engine.ingest(short.document)

        encode()
        facts |= _stage(f"encode {len(short.ids)} tokens", encode)
    return facts


def _question(engine: ACREEngine, subject: Subject, facts: Facts, new_tokens: int) -> None:
    questioner = engine._questioner
    asked: list[Asked] = []
    refilled: list[Refilled] = []

    def select() -> None:
        request = Request(
            question=next(subject.questions), documents=(subject.id,), max_new_tokens=new_tokens
        )
        asked[:] = [questioner.ask(request)]

    def refill() -> None:
        refilled.clear()
        refilled.append(questioner.refill(asked[0], engine.reader.local.replays.room))

    local, twin = engine.reader.local, engine.reader.twin

    def answer(tokens: int) -> Callable[[], None]:
        def run() -> None:
            # In this thread: the profiler does not see others. A cache is rotated once.
            block = refilled.pop().cache
            if block is not None:
                watch = Watch(threading.Event(), lambda: None)
                with local.answering():
                    cache = rotate_into_cache(local, twin, block)
                    del block
                    generate_greedily(local, asked[0].ids, cache, tokens, watch)

        return run

    def stream() -> None:
        AnswerStream(engine.reader, asked[0], refilled.pop(), new_tokens).finish()

    facts |= _stage("load and select", select)
    facts |= _stage("fetch and splice", refill)
    facts |= _stage("rotate and first token", answer(1), refill)
    facts |= _stage(f"rotate and {new_tokens} tokens", answer(new_tokens), refill)
    facts |= _stage(f"the same as a stream of {new_tokens} tokens", stream, refill)


def _stage(name: str, run: Callable[[], None], before: Callable[[], None] = lambda: None) -> Facts:
    times, peaks = [], []
    for _ in range(_TIMES):
        before()
        _wait()
        held = _allocated()
        started = time.perf_counter()
        run()
        _wait()
        times.append(time.perf_counter() - started)
        peaks.append(_peak() - held)
    before()
    _wait()
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as seen:
        run()
        _wait()
    rows = list(seen.key_averages())
    busy = sum(row.self_device_time_total for row in rows if _on_device(row))
    facts: Facts = {
        f"{name}: wall, ms": round(1e3 * statistics.median(times), 2),
        f"{name}: GPU busy, ms": round(busy / 1e3, 2),
        f"{name}: memory beyond what is held, MB": round(max(peaks) / 1e6, 1),
        f"{name}: kernel launches": _count(rows, _LAUNCHES),
        f"{name}: waits for the GPU": _count(rows, _WAITS),
        f"{name}: copies": _count(rows, _COPIES),
    }
    for kind, own in (("GPU", _kernels(rows)), ("host", _operations(rows))):
        for place, line in enumerate(own, 1):
            facts[f"{name}: {kind} {place}"] = line
    return facts


def _kernels(rows: Iterable[Any]) -> list[str]:
    longest = sorted(filter(_on_device, rows), key=lambda row: -row.self_device_time_total)
    return [
        f"{row.self_device_time_total / 1e3:.2f} ms, {row.count} times, {row.key[:80]}"
        for row in longest[:_LONGEST]
    ]


def _operations(rows: Iterable[Any]) -> list[str]:
    longest = sorted(rows, key=lambda row: -row.self_cpu_time_total)
    return [
        f"{row.self_cpu_time_total / 1e3:.2f} ms, {row.count} times, {row.key[:80]}"
        for row in longest[:_LONGEST]
    ]


def _on_device(row: Any) -> bool:  # noqa: ANN401  # a row of the profiler, of no public type
    return bool(row.device_type.name == "CUDA")


def _count(rows: Iterable[Any], names: tuple[str, ...]) -> int:
    return sum(row.count for row in rows if row.key.startswith(names))


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _allocated() -> int:
    if not torch.cuda.is_available():
        return 0
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def _peak() -> int:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
