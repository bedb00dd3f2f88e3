"""Captures work of a GPU as CUDA graphs, which share one pool of memory."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import torch


class Captures:
    """Captures on one GPU, one after another, by whoever holds the model.

    torch refuses a pool whose graphs are all gone while some of its memory is still out, and a
    pool for each capture would keep its memory from all others. So all captures share one pool,
    and an empty one that is never replayed holds it. Sharing is safe where replays follow one
    another and what they give is copied, or looked at, before the next one.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()
        place = torch.zeros(1, device=device)
        self._holds_pool = self._captured(place.zero_)

    def capture(self, run: Callable[[], object]) -> Callable[[], None]:
        """Run once, then capture another run: it is not done, but done by each call of the result.

        Args:
            run: Reads and writes memory that stays where it is. What it makes and keeps is in the
                same place after each replay.

        Raises:
            RuntimeError: Something in it cannot be captured, or memory is exhausted.
        """
        # What is made on first use (handles, workspaces, kernels) must not be captured.
        with self._beside():
            run()
        return self._captured(run).replay

    def _captured(self, run: Callable[[], object]) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        with self._beside(), _no_collection():
            # Others may capture later, outside of this mode, with the random state that this makes.
            with torch.inference_mode(mode=False):
                # Other threads may wait for the device meanwhile, as one that writes a cache does.
                graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                run()
            except BaseException:
                with suppress(RuntimeError):  # the first error is the one that says why
                    graph.capture_end()
                raise
            graph.capture_end()
        return graph

    @contextmanager
    def _beside(self) -> Iterator[None]:
        """Work on a stream of its own, as captures must, in turn with what stands around it."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            current.wait_stream(self._stream)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Collect no garbage meanwhile: graphs in it would be destroyed amid a capture."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
