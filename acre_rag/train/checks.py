"""Held-out questions, answered every so many steps of a run."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from acre_rag.train.measure import measured
from acre_rag.train.packs import QuestionPack
from acre_rag.train.probe import ProbeSettings
from acre_rag.train.processes import Processes
from acre_rag.train.setup import Setup

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """Measures the adapter that is being trained, and keeps what it found beside the losses.

    Attributes:
        setup: Model and adapter.
        pack: Held-out questions.
        gold: Their answers.
        settings: What is asked of how much text.
        every: Steps between two checks.
        out: Directory of the run.
    """

    setup: Setup
    pack: QuestionPack
    gold: Sequence[Sequence[str]]
    settings: ProbeSettings
    every: int
    out: Path

    def __call__(self, step: int) -> None:
        """Measure after a step, if it is time."""
        if step % self.every or not Processes.here().first:
            return
        selection = self.setup.trainable.selection().detach()
        found = measured(self.setup, self.pack, self.gold, selection, self.settings)
        with (self.out / "checks.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "budgets": found}) + "\n")
        for budget, scores in found.items():
            said = " ".join(f"{name} {value:.3f}" for name, value in scores.items() if name != "n")
            _log.info("step %d, %d tokens refilled: %s", step, budget, said)
