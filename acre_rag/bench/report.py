"""Parts merged into one page: tables in Markdown, and pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from acre_rag.bench.figures import Comparison, Curve, Spread
from acre_rag.bench.parts import PARTS, Measured
from acre_rag.drawing import new_figure
from acre_rag.errors import ConfigError

if TYPE_CHECKING:  # an extra brings it
    from matplotlib.axes import Axes

_TITLES = {
    "machine": "What the machine can do",
    "encode": "Encoding",
    "first-token": "First token",
    "decode": "Decoding",
    "policy": "The cost model's choice",
    "length": "Growth with the document",
    "documents": "Growth with the number of documents",
    "budget": "Growth with the budget",
    "at-once": "Questions at once",
    "load": "Under load",
    "llama-cpp": "Beside llama.cpp",
    "check": "The GPU beside the CPU",
    "replays": "Replayed passes beside the model's own",
    "profile": "Where a GPU's time goes",
    "peak": "Peak memory of a question",
    "million": "A million tokens",
}


def markdown(parts: Sequence[Measured]) -> str:
    """Lay parts out as Markdown."""
    return "\n".join(line for part in parts for line in _section(part)).rstrip() + "\n"


def _section(part: Measured) -> list[str]:
    told, given = part.provenance, part.settings
    lines = [f"## {_TITLES[part.part]}", ""]
    if part.findings.comparisons:
        lines += [*_comparisons(part.findings.comparisons), ""]
    for curve in part.findings.curves:
        lines += [*_curve(curve), ""]
    if part.findings.facts:
        lines += ["| | |", "| --- | ---: |"]
        lines += [f"| {name} | {_number(value)} |" for name, value in part.findings.facts.items()]
        lines.append("")
    lines += [f"Note: {note}." for note in part.findings.notes]
    lines += [""] if part.findings.notes else []
    threads = "1 thread" if told["threads"] == 1 else f"{told['threads']} threads"
    lines += [
        f"{_command(part)}, {given['model']}, {given['dtype']}, "
        f"{told['gpu'] or told['processor']}, {threads}, {given['rounds']} rounds, "
        f"{str(told['date'])[:10]}, commit {told['commit']}, torch {told['torch']}, "
        f"transformers {told['transformers']}.",
        "",
    ]
    return lines


def _command(part: Measured) -> str:
    own = "acre bench" if part.part in PARTS else "python -m benchmarks.gpu"
    return f"`{own} --part {part.part}`"


def _comparisons(found: Sequence[Comparison]) -> list[str]:
    lines = [
        "| tokens | what | against | ours | theirs | times less | times less, processor | goal |",
        "| ---: | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in found:
        cells = [
            f"{one.tokens:,}",
            one.what,
            one.against,
            _amount(Spread.of(one.ours).median, one),
            _amount(Spread.of(one.theirs).median, one),
            _spread(one.ratio),
            _spread(one.cpu_ratio) if one.cpu_ratio is not None else "",
            "" if one.goal is None else f"{one.goal:g}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _curve(curve: Curve) -> list[str]:
    power = f"to the power of {curve.exponent:.2f}"
    return [
        f"**{curve.what}** grows with {curve.of} {power}: {curve.why}.",
        "",
        f"| {curve.of} | {' | '.join(f'{size:,.0f}' for size in curve.sizes)} |",
        f"| --- | {' | '.join('---:' for _ in curve.sizes)} |",
        f"| seconds | {' | '.join(f'{time:.3g}' for time in curve.seconds)} |",
    ]


def _amount(value: float, one: Comparison) -> str:
    if one.unit == "bytes":
        return f"{value / 1e6:,.1f} MB"
    if one.work is not None:
        return f"{one.work / value:,.1f} tokens/s"
    return f"{1e3 * value:,.0f} ms"


def _spread(spread: Spread) -> str:
    if spread.low == spread.high:
        return f"{spread.median:.2f}"
    return f"{spread.median:.2f} ({spread.low:.2f}-{spread.high:.2f})"


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, (int, float)) else str(value)


def draw(parts: Sequence[Measured], folder: Path) -> list[Path]:
    """Draw ratios and curves, a picture for each part that has some: where are they?

    Raises:
        ConfigError: The library for it is not installed, or a file cannot be written.
    """
    drawn = []
    for part in parts:
        comparisons, curves = part.findings.comparisons, part.findings.curves
        kinds = [(_draw_ratios, 1 + 0.45 * len(comparisons))] if comparisons else []
        kinds += [(_draw_curves, 4.0)] if curves else []
        if not kinds:
            continue
        figure = new_figure(8, sum(height for _, height in kinds))
        for place, (draw_kind, _) in enumerate(kinds, start=1):
            draw_kind(figure.add_subplot(len(kinds), 1, place), part)
        path = folder / f"{part.part}.png"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, dpi=150)
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be written ({error.strerror}); expected a folder of yours: name "
                "another"
            ) from error
        drawn.append(path)
    return drawn


def _draw_ratios(axes: "Axes", part: Measured) -> None:
    found = part.findings.comparisons
    places = range(len(found), 0, -1)
    ratios = [one.ratio for one in found]
    below = [ratio.median - ratio.low for ratio in ratios]
    above = [ratio.high - ratio.median for ratio in ratios]
    names = [f"{one.what}\nagainst {one.against}, {one.tokens:,} tokens" for one in found]
    bars = axes.barh(places, [r.median for r in ratios], xerr=[below, above], capsize=2)
    axes.bar_label(bars, [f"{r.median:.3g}" for r in ratios], padding=4, fontsize=7)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(list(places), names, fontsize=6)
    axes.set(xlabel="times less of ours", xscale="log", title=_TITLES[part.part])


def _draw_curves(axes: "Axes", part: Measured) -> None:
    for curve in part.findings.curves:
        label = f"{curve.what}: exponent {curve.exponent:.2f}"
        axes.plot(curve.sizes, curve.seconds, marker="o", label=label)
    axes.set(
        xlabel=part.findings.curves[0].of,
        ylabel="seconds",
        xscale="log",
        yscale="log",
        title=_TITLES[part.part],
    )
    axes.legend(fontsize="small")
