"""Timed rounds in a file that grows as they end, with the machine that they were timed on."""

import json
import os
import platform
import statistics
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TypedDict

import torch

from acre_rag.bench.provenance import commit, processor

_LIBRARIES = ("torch", "transformers", "langchain-core")


class Moment(TypedDict):
    """When a round began, and how many processes wanted to run in the minute before."""

    date: str
    load: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One question, timed from the call of `stream`.

    Attributes:
        first_token: Seconds until the answer's first text; `None` where it has none.
        total: Seconds until its end.
        answer: The text.
    """

    first_token: float | None
    total: float
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One question by each chain.

    Attributes:
        tokens: Tokens that the document was cut to.
        document_tokens: Tokens that it has, cut so.
        method: How the document was read: with an adapter, or without.
        prepare: Seconds for what is done once for the document, by chain.
        runs: What each chain took.
        date: When the round began.
        load: Processes that wanted to run in the minute before.
    """

    tokens: int
    document_tokens: int
    method: str
    prepare: dict[str, float]
    runs: dict[str, Run]
    date: str
    load: float


class Record:
    """Rounds of one setup, in a file.

    Args:
        path: Of the file.
        setup: What is measured, and on which machine.
        rounds: Those that it holds.
    """

    def __init__(self, path: Path, setup: dict[str, object], rounds: list[Round]) -> None:
        self.path = path
        self.setup = setup
        self.rounds = rounds

    @staticmethod
    def read(path: Path) -> "Record":
        """Read a file."""
        told = json.loads(path.read_text(encoding="utf-8"))
        rounds = [
            Round(**{**one, "runs": {name: Run(**run) for name, run in one["runs"].items()}})
            for one in told["rounds"]
        ]
        return Record(path, told["setup"], rounds)

    @staticmethod
    def open(path: Path, setup: dict[str, object]) -> "Record":
        """Read a file, or begin one; rounds of another setup are not added to."""
        if not path.exists():
            return Record(path, setup, [])
        record = Record.read(path)
        other = [name for name in setup if record.setup.get(name) != setup[name]]
        if other:
            sys.exit(
                f"{path} holds rounds of another {', '.join(other)}; expected the same, or no "
                "file: name another"
            )
        return record

    def count(self, tokens: int) -> int:
        """Count the rounds over a document of so many tokens."""
        return sum(one.tokens == tokens for one in self.rounds)

    def add(self, one: Round) -> None:
        """Keep a round, in the file too."""
        self.rounds.append(one)
        told = {"setup": self.setup, "rounds": [asdict(one) for one in self.rounds]}
        whole = self.path.with_suffix(".part")
        whole.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        whole.replace(self.path)

    def caption(self) -> str:
        """Say in a line of Markdown what was measured, and where."""
        told = self.setup
        days = " and ".join(sorted({one.date[:10] for one in self.rounds}))
        counts = {self.count(one.tokens) for one in self.rounds}
        return (
            f"{told['model']} in {told['dtype']}, caches in {told['stored_dtype']}, "
            f"{told['threads']} threads on {told['cores']} cores ({told['cpu']}), torch "
            f"{told['torch']}, {days}, commit {told['commit']}; medians of "
            f"{' or '.join(map(str, sorted(counts)))} rounds (`{self.path.name}`):"
        )

    def table(self) -> Iterator[str]:
        """Put the medians of each length into a table of Markdown."""
        yield "| document tokens | chain | once (s) | first token (s) | total (s) | answer |"
        yield "| --- | --- | --- | --- | --- | --- |"
        for tokens in sorted({one.tokens for one in self.rounds}):
            own = [one for one in self.rounds if one.tokens == tokens]
            for chain in own[0].runs:
                runs = [one.runs[chain] for one in own]
                once = [one.prepare[chain] for one in own if chain in one.prepare]
                seconds = [run.first_token for run in runs if run.first_token is not None]
                yield (
                    f"| {own[0].document_tokens:,} | `{chain}` "
                    f"| {f'{statistics.median(once):.1f}' if once else '-'} "
                    # The median of those that answered would hide those that did not.
                    f"| {f'{statistics.median(seconds):.2f}' if len(seconds) == len(runs) else '-'}"
                    f" | {statistics.median(run.total for run in runs):.2f} "
                    f"| {' '.join(runs[-1].answer.split()).replace('|', '/') or '(none)'} |"
                )


def machine() -> dict[str, object]:
    """Name the commit, the processor, and the versions that matter."""
    return {
        "commit": commit() or "unknown",
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
    }


def now() -> Moment:
    """Tell the time, and how busy the machine is."""
    moment = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Moment(date=moment, load=round(os.getloadavg()[0], 2))
