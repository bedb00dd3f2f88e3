"""Rows to results: means with intervals, as JSON, as a table, and as a picture."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from acre_rag.drawing import new_figure
from acre_rag.errors import ConfigError
from acre_rag.evaluate.bootstrap import interval
from acre_rag.evaluate.prompts import Budget
from acre_rag.evaluate.run import Row

Numbers = dict[str, object]

_MEASURES = ("rouge_l", "accuracy", "f1", "em", "contains")


def summary(rows: Sequence[Row], seconds: Mapping[str, float]) -> dict[str, dict[str, Numbers]]:
    """Average rows: results by budget, then by method.

    What the budget makes no difference to stands under every number.

    Args:
        rows: Of all methods and budgets.
        seconds: Median time to the first token of each method, in milliseconds.
    """
    numbers = sorted({row.budget for row in rows if row.budget and row.budget != "auto"})
    budgets: list[Budget] = [*numbers]
    if any(row.budget == "auto" for row in rows):
        budgets.append("auto")
    names = list(dict.fromkeys(row.method for row in rows))
    found: dict[str, dict[str, Numbers]] = {}
    for budget in budgets or [0]:
        found[str(budget)] = {}
        for name in names:
            alike = {budget} if budget == "auto" and numbers else {budget, 0}
            own = [row for row in rows if row.method == name and row.budget in alike]
            if not own:
                continue  # it finds no budget itself
            averaged = averages(own)
            if name in seconds:
                averaged["first_token_ms"] = round(seconds[name], 2)
            found[str(budget)][name] = averaged
    return found


def averages(rows: Sequence[Row]) -> Numbers:
    """Average the rows of one method and budget, with 95 % intervals."""
    numbers: Numbers = {"n": len(rows)}
    for measure in _MEASURES:
        _add(numbers, measure, [row.scores[measure] for row in rows if measure in row.scores])
    _add(
        numbers,
        "evidence_recall",
        [float(row.recalled) for row in rows if row.recalled is not None],
    )
    numbers["refilled_tokens"] = round(_mean([row.refilled_tokens for row in rows]), 1)
    numbers["cache_tokens"] = round(_mean([row.cache_tokens for row in rows]), 1)
    numbers["cut"] = sum(row.cut for row in rows)
    numbers["empty_answers"] = sum(not row.answer for row in rows)
    return numbers


def row_object(row: Row) -> Numbers:
    """Turn a row into what JSON holds."""
    return {
        "method": row.method,
        "budget": row.budget,
        "document": row.document,
        "id": row.question.id,
        "question": row.question.text,
        "answers": list(row.question.answers),
        "answer": row.answer,
        "recalled": row.recalled,
        "refilled_tokens": row.refilled_tokens,
        **row.scores,
    }


def check_writable(path: Path) -> None:
    """Make a file, so that a place that cannot be written to is found before hours of work.

    Raises:
        ConfigError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise _unwritable(path, error) from error


def write_json(value: Mapping[str, object], path: Path) -> None:
    """Write results, readable and in a fixed order.

    Raises:
        ConfigError: The file cannot be written.
    """
    _write(json.dumps(value, indent=1, ensure_ascii=False) + "\n", path)


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Write one JSON object a question, method and budget.

    Raises:
        ConfigError: The file cannot be written.
    """
    _write("".join(json.dumps(row_object(row), ensure_ascii=False) + "\n" for row in rows), path)


def table(results: Mapping[str, Mapping[str, Numbers]]) -> tuple[list[str], list[list[str]]]:
    """Lay results out for people: columns, and a row for each budget and method."""
    shown = [
        measure
        for measure in (*_MEASURES, "evidence_recall")
        if any(measure in own for methods in results.values() for own in methods.values())
    ]
    columns = ["budget", "method", "n", *shown, "tokens", "first token"]
    lines = []
    for budget, methods in results.items():
        for name, own in methods.items():
            time = own.get("first_token_ms")
            lines.append(
                [
                    *(budget, name, str(own["n"])),
                    *(_shown(own, measure) for measure in shown),
                    f"{own['refilled_tokens']:.0f}",
                    "" if time is None else f"{time:.0f} ms",
                ]
            )
    return columns, lines


def draw(
    results: Mapping[str, Mapping[str, Numbers]], path: Path, *, measure: str, title: str
) -> None:
    """Draw a measure against the budget, a line for each method; a star is what `auto` gave.

    Raises:
        ConfigError: The library for it is not installed, or the file cannot be written.
    """
    figure = new_figure(7, 4.5)
    axes = figure.add_subplot()
    for name in dict.fromkeys(name for methods in results.values() for name in methods):
        places, values, lows, highs = _curve(results, name, measure)
        if places:
            (line,) = axes.plot(places, values, marker="o", label=name)
            axes.fill_between(places, lows, highs, alpha=0.1)
            own = results.get("auto", {}).get(name, {})
            if measure in own:
                place = float(own["refilled_tokens"])  # type: ignore[arg-type]  # a number
                value = float(own[measure])  # type: ignore[arg-type]  # likewise
                axes.plot(place, value, marker="*", markersize=12, color=line.get_color())
    axes.set(xlabel="refilled tokens", ylabel=measure, title=title, ylim=(0, None))
    axes.legend(fontsize="small")
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from error


def main_measure(results: Mapping[str, Mapping[str, Numbers]]) -> str:
    """Choose the measure that fits the set: ROUGE-L, accuracy, or F1."""
    found = {name for methods in results.values() for own in methods.values() for name in own}
    return next(measure for measure in _MEASURES if measure in found or measure == "f1")


def _curve(
    results: Mapping[str, Mapping[str, Numbers]], name: str, measure: str
) -> tuple[list[float], list[float], list[float], list[float]]:
    """Find budgets, values, and both bounds of the intervals."""
    places, values, lows, highs = [], [], [], []
    for budget, methods in results.items():
        own = methods.get(name, {})
        if measure in own and budget != "auto":
            low, high = own[f"{measure}_interval"]  # type: ignore[misc]  # a pair, as `_add` made it
            places.append(float(budget))
            values.append(float(own[measure]))  # type: ignore[arg-type]  # a number, likewise
            lows.append(low)  # type: ignore[has-type]
            highs.append(high)  # type: ignore[has-type]
    return places, values, lows, highs


def _add(numbers: Numbers, name: str, values: Sequence[float]) -> None:
    if values:
        numbers[name] = round(_mean(values), 4)
        numbers[f"{name}_interval"] = [round(bound, 4) for bound in interval(values)]


def _shown(own: Numbers, measure: str) -> str:
    if measure not in own:
        return ""
    low, high = own[f"{measure}_interval"]  # type: ignore[misc]
    return f"{own[measure]:.3f} ({low:.2f}-{high:.2f})"  # type: ignore[has-type]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(len(values), 1)


def _write(text: str, path: Path) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: Exception) -> ConfigError:
    return ConfigError(
        f"{path} cannot be written ({error}); expected a file in a directory of yours: name another"
    )
