"""Captures keep their pool, against a stand-in for torch's that refuses what torch refuses."""

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import torch

from acre_rag.model.capture import Captures

GPU = torch.device("cuda")


@dataclass
class _Cuda:
    """Counts the graphs of each pool, as torch's allocator does; streams are names."""

    pools: dict[int, int] = field(default_factory=dict)
    handles: int = 0
    current: "_Stream | None" = None
    capturing: bool = False
    refused: bool = False
    modes: list[tuple[str, bool]] = field(default_factory=list)
    waits: list[tuple[str, str]] = field(default_factory=list)


class _Stream:
    def __init__(self, cuda: _Cuda, name: str) -> None:
        self.cuda, self.name = cuda, name

    def wait_stream(self, other: "_Stream") -> None:
        self.cuda.waits.append((self.name, other.name))


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> _Cuda:
    """What `torch.cuda` is for the time of a test."""
    fake = _Cuda()
    fake.current = _Stream(fake, "main")

    class Graph:
        def capture_begin(self, pool: int, capture_error_mode: str) -> None:
            # A pool that is known, and has no graph, is refused.
            assert fake.pools.get(pool) != 0, "use_count > 0 INTERNAL ASSERT FAILED"
            assert fake.current is not None
            assert fake.current.name == "side"
            assert not fake.capturing
            fake.modes.append((capture_error_mode, torch.is_inference_mode_enabled()))
            fake.pools[pool] = fake.pools.get(pool, 0) + 1
            fake.capturing = True
            weakref.finalize(self, _release, fake, pool)

        def capture_end(self) -> None:
            fake.capturing = False
            if fake.refused:
                fake.refused = False
                raise RuntimeError("the capture was invalidated")

        def replay(self) -> None:
            """Do nothing."""

    @contextmanager
    def stream(given: _Stream) -> Iterator[None]:
        before, fake.current = fake.current, given
        try:
            yield
        finally:
            fake.current = before

    def handle() -> int:
        fake.handles += 1
        return fake.handles

    zeros = torch.zeros
    monkeypatch.setattr(
        torch, "zeros", lambda *shape, device: zeros(*shape, device="cpu" if device else None)
    )
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "Stream", lambda _: _Stream(fake, "side"))
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: fake.current)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", handle)
    return fake


def _release(fake: _Cuda, pool: int) -> None:
    fake.pools[pool] -= 1


def test_captures_that_are_let_go_leave_the_pool_to_the_next(cuda: _Cuda) -> None:
    captures = Captures(GPU)

    for _ in range(3):
        replay = captures.capture(lambda: None)
        assert list(cuda.pools.values()) == [2]
        del replay
        assert list(cuda.pools.values()) == [1]  # torch refuses one of 0

    del captures
    assert list(cuda.pools.values()) == [0]


def test_a_pass_runs_once_before_it_is_captured_and_is_captured_once(cuda: _Cuda) -> None:
    runs: list[tuple[bool, bool]] = []
    captures = Captures(GPU)

    captures.capture(lambda: runs.append((cuda.capturing, gc.isenabled())))

    assert runs == [(False, True), (True, False)]
    assert gc.isenabled()


def test_other_threads_and_later_captures_are_left_alone(cuda: _Cuda) -> None:
    with torch.inference_mode():
        Captures(GPU).capture(lambda: None)

    assert set(cuda.modes) == {("thread_local", False)}


def test_it_works_behind_what_was_begun_and_before_what_follows(cuda: _Cuda) -> None:
    Captures(GPU).capture(lambda: None)

    assert cuda.waits == [("side", "main"), ("main", "side")] * 3  # the empty one, a run, a capture


def test_the_first_error_is_told_and_the_capture_is_ended(cuda: _Cuda) -> None:
    captures = Captures(GPU)

    with pytest.raises(RuntimeError, match="no such thing"):
        captures.capture(_refusing(cuda))

    assert not cuda.capturing
    assert gc.isenabled()
    captures.capture(lambda: None)  # the next one is none the worse for it


def _refusing(cuda: _Cuda) -> Callable[[], None]:
    def run() -> None:
        if cuda.capturing:
            cuda.refused = True
            raise RuntimeError("no such thing in a capture")

    return run
