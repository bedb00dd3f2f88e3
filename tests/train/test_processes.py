"""Several processes share a step: real ones, over gloo on this machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from acre_rag.train.processes import Processes
from acre_rag.train.record import draw_curves
from tests.store.servers import free_port

_SCRIPT = """
import sys
from pathlib import Path
import torch
from torch.utils.data import Dataset
from acre_rag.train.loop import LoopSettings, run_steps
from acre_rag.train.steps import StepLoss

class Numbers(Dataset):
    def __getitem__(self, step):
        return torch.arange(1.0, 4.0) * (step % 4 + 1)

class Pair(Dataset):  # what two processes see in one step, as one batch
    def __getitem__(self, step):
        return torch.stack([Numbers()[2 * step], Numbers()[2 * step + 1]])

class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([0.5, -0.3, 0.2]))
    def groups(self, rate, _):
        return [{"params": list(self.parameters()), "lr": rate}]

def run(out, data):
    line = Line()
    def loss_of(batch):
        loss = ((batch @ line.weight - 1.0) ** 2).mean()
        return StepLoss(loss, {"loss": loss.detach()})
    settings = LoopSettings(steps=5, learning_rate=0.1, selection_rate=0.0, warmup=2)
    run_steps(line, data, loss_of, settings, Path(out))

run(sys.argv[1], Pair() if sys.argv[2] == "pair" else Numbers())
"""


def _start(out: Path, data: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-W", "ignore", "-c", _SCRIPT, str(out), data]
    return subprocess.Popen(line, env=os.environ | environment, stderr=subprocess.PIPE)


@pytest.mark.slow  # three processes that load torch
def test_two_processes_change_parameters_as_one_does_on_both_of_their_batches(
    tmp_path: Path,
) -> None:
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}

    started = [_start(tmp_path / "one", "pair", {})]
    started += [
        _start(tmp_path / "two", "each", meeting | {"RANK": rank, "LOCAL_RANK": rank})
        for rank in "01"
    ]

    for process in started:
        _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said.decode()
    one, two = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert value.tolist() == pytest.approx(two[name].tolist(), rel=1e-5), name
    assert (tmp_path / "two" / "log.jsonl").read_text(encoding="utf-8").count("\n") == 1


def test_a_process_alone_does_nothing_and_takes_every_batch() -> None:
    alone = Processes.here()

    assert alone.first
    assert list(alone.own_batches(2, 5)) == [2, 3, 4]
    assert alone.agree(True)
    assert not alone.agree(False)
    alone.wait()


def test_every_batch_is_taken_by_one_of_several_processes() -> None:
    taken = [list(Processes(rank, 3).own_batches(2, 4)) for rank in range(3)]

    assert taken == [[6, 9], [7, 10], [8, 11]]


@pytest.mark.parametrize("rank", [0, 1])
def test_the_process_that_writes_draws_the_curves_and_no_other(
    rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.5}\n')
    monkeypatch.setattr(Processes, "here", lambda: Processes(rank=rank, count=2))

    assert draw_curves(tmp_path) == (rank == 0)

    assert (tmp_path / "curves.png").exists() == (rank == 0)
