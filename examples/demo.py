"""Read four documents once, ask them ten questions, and compare with reading the text each time.

Run it with `make demo`. The caches stay in `~/.cache/acre_rag/demo-store` (or `ACRE_STORE`): a
second run reads nothing again.
"""

import os
import statistics
import textwrap
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from full_text import FullTextAnswer, ask_full_text
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from scoring import Question, is_right, load_questions

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
REFILL_TOKENS = 256

console = Console()


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, the answer from the cache, and, of one question a document, from the text."""

    question: Question
    answer: Answer
    full: FullTextAnswer | None


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
        asked = ask(engine, texts)
        show_costs(engine, asked)
        show_times(asked)


def read(engine: ACREEngine, texts: dict[str, str]) -> None:
    """Read each document into the store; one that is there already is not read again."""
    columns = (
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()),
        *(TextColumn("tokens"), TimeElapsedColumn()),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        for name, text in texts.items():
            task = progress.add_task(name, total=None)
            (done,) = engine.ingest(
                [Document(id=name, text=text)],
                on_progress=lambda _, done, total, task=task: progress.update(
                    task, completed=done, total=total
                ),
            )
            how = f"read in {done.seconds:.1f} s" if done.encoded_tokens else "stored already"
            progress.console.print(f"{name}: {done.tokens:,} tokens, {how}")


def ask(engine: ACREEngine, texts: dict[str, str]) -> list[Asked]:
    """Ask each question of its document, and show where the answer is from."""
    console.print(
        f"\nEach question brings back {REFILL_TOKENS} tokens (refill_tokens={REFILL_TOKENS}); "
        "the default is a quarter of the\ndocument, at least 256, at most 4,096."
    )
    chosen = chosen_questions()
    # What either way does for the first time only is not measured: one of each goes unseen.
    first = chosen[0]
    engine.ask(first.question, [first.document], REFILL_TOKENS, max_new_tokens=2)
    ask_full_text(engine, texts[first.document], first.question, 2)
    asked: list[Asked] = []
    for entry in chosen:
        answer = engine.ask(entry.question, [entry.document], REFILL_TOKENS, NEW_TOKENS)
        show_answer(entry, answer)
        seen = {before.question.document for before in asked}
        full = None
        if entry.document not in seen:  # reading everything is slow: once a document
            full = ask_full_text(engine, texts[entry.document], entry.question, NEW_TOKENS)
        asked.append(Asked(entry, answer, full))
    return asked


def chosen_questions() -> list[Question]:
    """Pick some questions of each document."""
    known = load_questions(EXAMPLES / "questions.json")
    of_each = {
        name: [entry for entry in known if entry.document == name] for name in QUESTIONS_OF_EACH
    }
    return [of_each[name][place] for name, places in QUESTIONS_OF_EACH.items() for place in places]


def show_answer(entry: Question, answer: Answer) -> None:
    """Show an answer, what was expected, and the two best of its sources."""
    console.print(f"\n[bold]{entry.question}[/bold]  ({entry.document})")
    console.print(f"  answer:   {answer.text}", markup=False)
    console.print(f"  expected: {entry.accepted[0]}", style="dim", markup=False)
    for source in sorted(answer.sources, key=lambda found: -found.score)[:2]:
        where = f"  source:   {source.start}-{source.end}, score {source.score:.2f}: "
        room = max(console.width - len(where), 20)
        excerpt = textwrap.shorten(source.text, room, placeholder=" ...")
        console.print(where + excerpt, style="dim", markup=False)


def show_costs(engine: ACREEngine, asked: list[Asked]) -> None:
    """Show what each document takes in the store, and what a question reads of it."""
    table = Table(title="\nBytes in the store, and bytes that a question reads", box=None)
    table.add_column("document", no_wrap=True)
    for column in ("tokens", "stored", "refilled", "read", "share"):
        table.add_column(column, justify="right", no_wrap=True)
    for stored in engine.documents(list(QUESTIONS_OF_EACH)):
        of_it = [entry.answer.usage for entry in asked if entry.question.document == stored.id]
        most = max(usage.bytes_read for usage in of_it)
        table.add_row(
            stored.id,
            f"{stored.tokens:,}",
            decimal(stored.bytes),
            f"{max(usage.refilled_tokens for usage in of_it):,}",
            decimal(most),
            f"{most / stored.bytes:.0%}",
        )
    console.print(table)


def show_times(asked: list[Asked]) -> None:
    """Show seconds to the first token from the cache and with the full text, and their ratio."""
    table = Table(
        title="\nSeconds to the first token, from the same model in the same run", box=None
    )
    table.add_column("question", no_wrap=True)
    for column in ("cache", "full text", "ratio"):
        table.add_column(column, justify="right", no_wrap=True)
    ratios = []
    for entry in asked:
        ours = entry.answer.seconds.first_token
        row = [textwrap.shorten(entry.question.question, 44, placeholder=" ..."), f"{ours:.2f} s"]
        if entry.full is not None:
            ratios.append(entry.full.first_token / ours)
            row += [f"{entry.full.first_token:.2f} s", f"{ratios[-1]:.1f}x"]
        table.add_row(*row)
    console.print(table)
    typical = statistics.median(ratios)
    both = [entry for entry in asked if entry.full is not None]
    ours = sum(is_right(entry.answer.text, entry.question) for entry in asked)
    same = sum(is_right(entry.answer.text, entry.question) for entry in both)
    full = sum(is_right(entry.full.text, entry.question) for entry in both if entry.full)
    console.print(
        f"\nThe first token from the cache comes [bold]{typical:.1f}x sooner[/bold] than after a "
        f"full prefill (median of {len(ratios)}; {'at least' if typical >= 10 else 'not the'} "
        f"10x that documents of 4,000 tokens should give).\n"
        f"Expected words found: in {ours} of {len(asked)} answers from the cache; of the "
        f"{len(both)} asked both ways, in {same} from the cache and in {full} with the full text. "
        "It is a small model."
    )


if __name__ == "__main__":
    main()
