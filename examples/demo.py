"""Read four documents once, ask them ten questions, and compare with reading the text each time.

Run it with `make demo`. The caches stay in `~/.cache/acre_rag/demo-store` (or `ACRE_STORE`): a
second run reads nothing again.
"""

import json
import os
import statistics
import textwrap
from pathlib import Path

import platformdirs
from full_text import ask_full_text
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from acre_rag import ACREEngine, Answer, Document

EXAMPLES = Path(__file__).parent
STORE = os.environ.get("ACRE_STORE") or platformdirs.user_cache_path("acre_rag") / "demo-store"
QUESTIONS_OF_EACH = {
    "freeze-dryer-manual.md": (0, 2, 3),
    "ferry-meeting.txt": (0, 5),
    "cold-store-incident.md": (0, 1, 3),
    "lake-hesper-log.txt": (0, 1),
}
NEW_TOKENS = 32

console = Console()


def main() -> None:
    """Read, ask, compare."""
    console.print("Loading the demo model, SmolLM2-135M-Instruct; the first time takes longer.")
    with ACREEngine(store=STORE) as engine:
        mode = "its landmark adapter" if engine.reader.has_landmarks else "no landmark adapter"
        method = "landmarks" if engine.reader.has_landmarks else "the training-free mode"
        console.print(f"With {mode}: documents are read by {method}. Caches: {engine.store.url}\n")
        texts = {
            path.name: path.read_text(encoding="utf-8")
            for path in sorted((EXAMPLES / "documents").iterdir())
        }
        read(engine, texts)
        answers = ask(engine, chosen_questions())
        compare(engine, texts, answers)


def read(engine: ACREEngine, texts: dict[str, str]) -> None:
    """Read each document into the store; one that is there already is not read again."""
    columns = (
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()),
        *(TextColumn("tokens"), TimeElapsedColumn()),
    )
    with Progress(*columns, console=console) as progress:
        for name, text in texts.items():
            task = progress.add_task(name, total=None)
            engine.ingest(
                [Document(id=name, text=text)],
                on_progress=lambda _, done, total, task=task: progress.update(
                    task, completed=done, total=total
                ),
            )


def chosen_questions() -> list[dict[str, str]]:
    """Pick some questions of each document."""
    known = json.loads((EXAMPLES / "questions.json").read_text(encoding="utf-8"))
    of_each = {
        name: [entry for entry in known if entry["document"] == name] for name in QUESTIONS_OF_EACH
    }
    return [of_each[name][place] for name, places in QUESTIONS_OF_EACH.items() for place in places]


def ask(engine: ACREEngine, questions: list[dict[str, str]]) -> list[tuple[dict[str, str], Answer]]:
    """Ask each question of its document, and show where the answer is from."""
    answers = []
    for entry in questions:
        answer = engine.ask(entry["question"], [entry["document"]], max_new_tokens=NEW_TOKENS)
        answers.append((entry, answer))
        console.print(f"\n[bold]{entry['question']}[/bold]  ({entry['document']})")
        console.print(f"  answer:   {answer.text}", markup=False)
        console.print(f"  expected: {entry['answer']}", style="dim", markup=False)
        for source in sorted(answer.sources, key=lambda found: -found.score)[:2]:
            excerpt = textwrap.shorten(source.text, 90, placeholder=" ...")
            where = f"{source.start}-{source.end}, score {source.score:.2f}"
            console.print(f"  source:   {where}: {excerpt}", style="dim", markup=False)
    return answers


def compare(
    engine: ACREEngine, texts: dict[str, str], answers: list[tuple[dict[str, str], Answer]]
) -> None:
    """Ask one question of each document again, with the whole text before it."""
    table = Table("question", title="\nFrom the cache, and with the full text before the question")
    for column in ("tokens", "refilled", "read", "cache", "full text", "ratio"):
        table.add_column(column, justify="right", no_wrap=True)
    ratios, right, seen = [], 0, set()
    for entry, answer in answers:
        full = None
        if entry["document"] not in seen:  # reading everything is slow: once a document
            seen.add(entry["document"])
            text = texts[entry["document"]]
            full = ask_full_text(engine, text, entry["question"], NEW_TOKENS)
            ratios.append(full.first_token / answer.seconds.first_token)
            right += is_right(full.text, entry)
        table.add_row(
            textwrap.shorten(entry["question"], 26, placeholder=" ..."),
            f"{answer.usage.document_tokens:,}",
            f"{answer.usage.refilled_tokens:,}",
            decimal(answer.usage.bytes_read),
            f"{answer.seconds.first_token:.2f} s",
            f"{full.first_token:.2f} s" if full else "",
            f"{ratios[-1]:.1f}x" if full else "",
        )
    console.print(table)
    first = statistics.median(answer.seconds.first_token for _, answer in answers)
    ours = sum(is_right(answer.text, entry) for entry, answer in answers)
    console.print(
        f"First token from the cache: {first:.2f} s (median of {len(answers)}), "
        f"[bold]{statistics.median(ratios):.1f}x[/bold] faster than with the full text (median "
        f"of {len(ratios)}).\nThe expected words are in {ours} of {len(answers)} "
        f"answers from the cache, and in {right} of {len(ratios)} with the full text: this is a "
        "small model."
    )


def is_right(answer: str, entry: dict[str, str]) -> bool:
    """Look for the expected words in an answer."""
    return entry["answer"].casefold() in answer.casefold()


if __name__ == "__main__":
    main()
