"""Several processes that train one adapter, one on each GPU.

A launcher starts them (`accelerate launch`, `torchrun`) and says in the environment who is who.
"""

import atexit
import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import distributed


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
        """Join the other processes, where a launcher has started several."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            return Processes()
        if not distributed.is_initialized():
            gpus = torch.cuda.is_available()
            if gpus:
                torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
            distributed.init_process_group("nccl" if gpus else "gloo")
            # Its threads must be joined before the interpreter ends: else the process aborts.
            atexit.register(distributed.destroy_process_group)
        return Processes(distributed.get_rank(), count)

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
