"""Several processes that train one adapter, one on each GPU, started by `accelerate launch`."""

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import distributed

from acre_rag.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Processes:
    """How many processes there are, and which of them this one is.

    Attributes:
        rank: Number of this process.
        count: Processes in all; alone, nothing here does anything.
    """

    rank: int = 0
    count: int = 1

    @staticmethod
    def here() -> "Processes":
        """Join the other processes, where a launcher has started several.

        Raises:
            ConfigError: The library for it is not installed.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return Processes()
        try:
            from accelerate import PartialState
        except ImportError as error:
            raise ConfigError(
                "several processes need accelerate, which is not installed; expected the train "
                "extra: run pip install 'acre-rag[train]', or start one process"
            ) from error
        state = PartialState()
        return Processes(state.process_index, state.num_processes)

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def own_batches(self, done: int, steps: int) -> range:
        """Number the batches of this process: all of them are taken, each by one process."""
        return range(done * self.count + self.rank, steps * self.count, self.count)

    def average(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Put the mean of all processes' gradients in place of each one's own."""
        if self.count == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:  # not part of this process's batch
                parameter.grad = torch.zeros_like(parameter)
            distributed.all_reduce(parameter.grad)
            parameter.grad /= self.count

    def agree(self, wish: bool) -> bool:
        """Do what any of the processes wishes, so that no one waits for others that have left."""
        if self.count == 1:
            return wish
        wishes: list[bool | None] = [None] * self.count
        distributed.all_gather_object(wishes, wish)
        return any(wishes)

    def wait(self) -> None:
        """Wait for all processes."""
        if self.count > 1:
            distributed.barrier()


def own_device(device: str | None) -> str | None:
    """Choose the device of this process: each a GPU of its own where several were started."""
    local = os.environ.get("LOCAL_RANK")
    if device is None and local is not None and torch.cuda.is_available():
        return f"cuda:{local}"
    return device
