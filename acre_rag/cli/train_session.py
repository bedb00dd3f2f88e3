"""What the training commands begin with: a model, a record of the run, checks along the way."""

from pathlib import Path
from typing import TYPE_CHECKING

from acre_rag.cli import train_options as given
from acre_rag.cli.failures import MisuseError

if TYPE_CHECKING:
    from torch import Tensor

    from acre_rag.model.local import LocalModel
    from acre_rag.model.prompt import PromptFrame
    from acre_rag.train.checks import Checks
    from acre_rag.train.loop import LoopSettings
    from acre_rag.train.setup import Setup


def loop_settings(
    run: given.RunOptions,
    steps: int,
    learning_rate: float,
    selection_rate: float = 0.0,
    *,
    graphed: bool = False,
) -> "LoopSettings":
    """Gather how parameters are changed."""
    from acre_rag.train.loop import LoopSettings

    return LoopSettings(
        steps=steps,
        learning_rate=learning_rate,
        selection_rate=selection_rate,
        stop_seconds=run.stop_seconds,
        workers=run.workers,
        graphed=graphed,
    )


def record_run(out: Path, command: str, data: list[Path | None], *plans: object) -> None:
    """Write down what a run is, before it begins."""
    from dataclasses import asdict

    from acre_rag.train.processes import Processes
    from acre_rag.train.record import start_record

    if Processes.here().first:
        settings = {type(plan).__name__: asdict(plan) for plan in plans}  # type: ignore[call-overload]
        files = [path for path in data if path is not None]
        start_record(out, {"command": command, **settings}, files)


def load_local(computing: given.ComputeOptions) -> "LocalModel":
    """Load the model; each of several processes takes a GPU of its own."""
    from acre_rag.model.local import LocalModel
    from acre_rag.train.processes import own_device

    dtype = computing.dtype and computing.dtype.value
    return LocalModel.load(computing.model, device=own_device(computing.device), dtype=dtype)


def frame_of(local: "LocalModel") -> "PromptFrame":
    """Make the prompt that questions are put in."""
    from acre_rag.config import Prompt
    from acre_rag.model.prompt import PromptFrame

    return PromptFrame(local.tokenizer, Prompt())


def opened_adapter(local: "LocalModel", adapter: Path | None) -> "Setup":
    """Open an adapter that was trained, or none."""
    from acre_rag.model.adapter_files import load_adapter
    from acre_rag.train.setup import LandmarkSettings, open_setup, settings_of

    if adapter is None:
        return open_setup(local, LandmarkSettings())
    return open_setup(local, settings_of(load_adapter(adapter)), start=adapter)


def known_weights(local: "LocalModel", adapter: Path | None) -> "Tensor":
    """Find the weights of the heads that an adapter has, or the training-free mode.

    Raises:
        MisuseError: The adapter has none.
    """
    from acre_rag.model.adapter_files import load_adapter
    from acre_rag.model.reader import selection_weights

    weights = selection_weights(local, None if adapter is None else load_adapter(adapter))
    if weights is None:
        raise MisuseError(
            f"{adapter} has no weights of its heads to keep; expected some: leave out "
            "--keep-weights, so that they are fitted"
        )
    return weights


def make_checks(setup: "Setup", checking: given.CheckOptions, out: Path) -> "Checks | None":
    """Make the checks that are wished while training; `None` for none."""
    from acre_rag.train.checks import Checks
    from acre_rag.train.data import open_questions
    from acre_rag.train.probe import ProbeSettings

    if checking.check is None:
        return None
    pack, gold = open_questions(checking.check, setup.frame)
    settings = ProbeSettings(limit=checking.check_limit)
    return Checks(
        setup=setup, pack=pack, gold=gold, settings=settings, every=checking.check_every, out=out
    )


def numbers_of(given_budgets: str) -> tuple[int, ...]:
    """Read budgets with commas between.

    Raises:
        MisuseError: They are no numbers.
    """
    try:
        return tuple(int(budget) for budget in given_budgets.split(","))
    except ValueError:
        raise MisuseError(
            f"budgets are {given_budgets!r}; expected numbers with commas between: 256,512"
        ) from None
