"""The refill map as a picture for notebooks: HTML and SVG alone, for light and dark pages."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from math import sqrt
from typing import TYPE_CHECKING

from acre_rag.refill_map import DocumentStrip, RefillMap

if TYPE_CHECKING:  # answers draw themselves with this
    from acre_rag.answer import Source

_WIDTH = 1000  # of a strip, in units of its own; the page stretches it
_MOST_CELLS = 400  # more could not be told apart, and would make notebooks heavy
_LISTED = 6
_MOST_LISTED = 40  # in the fold below those
_NUMBERED = 9
_LABEL_WIDTH = 24  # of those units, so that numbers do not cover one another
_EXCERPT = 150

# Text takes the page's own colour; all others are see-through, or bright on both black and white.
_STYLE = """
.acre-map{font:13px/1.5 system-ui,sans-serif;max-width:960px;margin:.4em 0}
.acre-map .said{font-size:16px;line-height:1.45;margin:0 0 .3em;white-space:pre-wrap}
.acre-map .dim{opacity:.68}
.acre-map .line{display:flex;flex-wrap:wrap;gap:0 .9em;align-items:baseline}
.acre-map .line .end{margin-left:auto}
.acre-map .strip{margin:.8em 0 0}
.acre-map .pins{position:relative;height:19px}
.acre-map .pin{position:absolute;bottom:2px;transform:translateX(-50%)}
.acre-map .rank{display:inline-block;min-width:16px;padding:0 2px;box-sizing:border-box;
 border-radius:8px;background:#2f6fde;color:#fff;font:600 11px/16px system-ui,sans-serif;
 text-align:center}
.acre-map svg{display:block;width:100%;height:38px}
.acre-map .key{margin:.5em 0 .9em}
.acre-map .key i{display:inline-block;width:64px;height:9px;margin:0 .4em 0 0;border-radius:2px}
.acre-map details{border-top:1px solid rgba(128,128,128,.3);padding:.35em 0}
.acre-map summary{cursor:pointer}
.acre-map summary .where{display:inline-flex;flex-wrap:wrap;gap:0 .7em;align-items:center;
 vertical-align:top}
.acre-map .peek{display:block;overflow:hidden;white-space:nowrap;text-overflow:ellipsis;
 padding-left:1.3em;opacity:.85}
.acre-map details[open]>summary .peek{display:none}
.acre-map .text{white-space:pre-wrap;overflow-wrap:anywhere;max-height:18em;overflow:auto;
 margin:.35em 0 .2em;padding:.1em .8em;border-inline-start:4px solid #2f6fde}
.acre-map .more>summary{opacity:.68}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """Neighbouring intervals of a strip that are drawn as one."""

    start: int
    end: int
    score: float
    chosen: bool


def draw(
    refill_map: RefillMap,
    sources: "Sequence[Source]",
    *,
    title: str | None,
    notes: Sequence[str],
) -> str:
    """Draw where a question looked: a strip for each document, and what was refilled below.

    All text is escaped. Nothing is loaded and no script runs, so that the picture stays as it is
    in a saved notebook.

    Args:
        refill_map: Scores over the documents.
        sources: Runs of chosen intervals, in any order.
        title: What stands above, as an answer.
        notes: What stands beneath that, small.
    """
    strips = {strip.document: strip for strip in refill_map.strips}
    ranked = sorted(sources, key=lambda source: -source.score)
    top = max((score for strip in strips.values() for score in strip.scores), default=0.0) or 1.0
    parts = [f'<div class="acre-map"><style>{_STYLE}</style>']
    if title is not None:
        parts.append(f'<p class="said" dir="auto">{escape(title)}</p>')
    parts.append(f'<div class="line dim">{_spread(notes)}</div>')
    parts.extend(_strip(strip, ranked, top) for strip in refill_map.strips)
    parts.append(_key())
    parts.extend(_list(ranked, strips, top))
    return "".join([*parts, "</div>"])


def _strip(strip: DocumentStrip, ranked: "Sequence[Source]", top: float) -> str:
    """Name, numbers, heat, and what was refilled beneath it."""
    share = sum(strip.scores)
    refilled = sum(strip.ends[i] - strip.starts[i] for i in strip.chosen) / strip.characters
    mine = [(rank, s) for rank, s in enumerate(ranked, 1) if s.document == strip.document]
    text = {source.start: source for _, source in mine}
    cells = "".join(_cell(span, strip, list(text.values()), top) for span in _cells(strip))
    marks = "".join(_mark(rank, source, strip) for rank, source in mine)
    return (
        f'<div class="strip"><div class="line"><b><bdi>{escape(strip.document)}</bdi></b>'
        f'<span class="dim">{strip.characters:,} characters</span>'
        f'<span class="dim end">{share:.0%} of the attention &#183; {refilled:.0%} refilled</span>'
        f'</div><div class="pins">{"".join(_pins(mine, strip))}</div>'
        f'<svg viewBox="0 0 {_WIDTH} 38" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(strip.document)}: attention and refilled parts">'
        f'<rect width="{_WIDTH}" height="28" fill="#808080" fill-opacity=".13"/>'
        f'<rect y="31" width="{_WIDTH}" height="7" fill="#808080" fill-opacity=".13"/>'
        f'<g shape-rendering="crispEdges">{cells}{marks}</g></svg></div>'
    )


def _cells(strip: DocumentStrip) -> Iterator[_Span]:
    """Intervals, or so many neighbours together that a strip has at most `_MOST_CELLS`."""
    chosen = set(strip.chosen)
    size = -(-len(strip.scores) // _MOST_CELLS)
    for first in range(0, len(strip.scores), size):
        last = min(first + size, len(strip.scores))
        yield _Span(
            start=strip.starts[first],
            end=strip.ends[last - 1],
            score=max(strip.scores[first:last]),  # a mean would hide the one that matters
            chosen=not chosen.isdisjoint(range(first, last)),
        )


def _cell(span: _Span, strip: DocumentStrip, sources: "Sequence[Source]", top: float) -> str:
    text = "" if not span.chosen else "".join(_between(s, span.start, span.end) for s in sources)
    x, width = _place(span.start, span.end, strip)
    colour, strength = _heat(span.score / top)
    hover = f"{_where(span.start, span.end)}, score {span.score:.4f}"
    if text:
        hover += f"\n{_shorten(text, _EXCERPT)}"
    return (
        f'<rect x="{x}" width="{width}" height="28" fill="{colour}" fill-opacity="{strength}">'
        f"<title>{escape(hover)}</title></rect>"
    )


def _mark(rank: int, source: "Source", strip: DocumentStrip) -> str:
    x, width = _place(source.start, source.end, strip)
    hover = (
        f"{rank}. refilled: {_where(source.start, source.end)}, score {source.score:.3f}\n"
        f"{_shorten(source.text, _EXCERPT)}"
    )
    return (
        f'<rect x="{x}" y="31" width="{width}" height="7" fill="#2f6fde">'
        f"<title>{escape(hover)}</title></rect>"
    )


def _pins(mine: "Sequence[tuple[int, Source]]", strip: DocumentStrip) -> Iterator[str]:
    """Numbers of the best sources above their places; of two that overlap, the better."""
    taken: list[float] = []
    for rank, source in mine:
        middle = (source.start + source.end) / 2 / strip.characters * _WIDTH
        middle = min(max(middle, _LABEL_WIDTH / 2), _WIDTH - _LABEL_WIDTH / 2)
        if rank > _NUMBERED or any(abs(middle - other) < _LABEL_WIDTH for other in taken):
            continue
        taken.append(middle)
        yield f'<span class="pin rank" style="left:{middle / _WIDTH:.2%}">{rank}</span>'


def _list(
    ranked: "Sequence[Source]", strips: dict[str, DocumentStrip], top: float
) -> Iterator[str]:
    items = [
        _item(rank, source, strips.get(source.document), top, named=len(strips) > 1)
        for rank, source in enumerate(ranked[: _LISTED + _MOST_LISTED], 1)
    ]
    yield from items[:_LISTED]
    rest = "".join(items[_LISTED:])
    if rest:
        left_out = len(ranked) - len(items)
        tail = f'<p class="dim">and {left_out} that scored less</p>' if left_out else ""
        count = len(ranked) - _LISTED
        yield f'<details class="more"><summary>{count} more</summary>{rest}{tail}</details>'


def _item(
    rank: int, source: "Source", strip: DocumentStrip | None, top: float, *, named: bool
) -> str:
    """One source: its number, place and score, a line of it, and all of it when opened."""
    spans = [] if strip is None else _spans_of(source, strip)
    hottest = max(spans, key=lambda span: span.score).start if spans else source.start
    # A little of what comes before, so that the line can be understood.
    before = max(hottest - source.start - 30, 0)
    peek = ("\N{HORIZONTAL ELLIPSIS}" if before else "") + source.text[before:].strip()
    name = f"<b><bdi>{escape(source.document)}</bdi></b>" if named else ""
    return (
        f"<details{' open' if rank == 1 else ''}><summary>"
        f'<span class="where"><span class="rank">{rank}</span>{name}'
        f'<span class="dim">{_where(source.start, source.end)}</span>'
        f'<span class="dim">score {source.score:.3f}</span></span>'
        f'<span class="peek" dir="auto">{escape(_shorten(peek, _EXCERPT))}</span></summary>'
        f'<div class="text" dir="auto">{_tinted(source, spans, top)}</div></details>'
    )


def _spans_of(source: "Source", strip: DocumentStrip) -> list[_Span]:
    return [
        _Span(start=start, end=end, score=score, chosen=True)
        for start, end, score in zip(strip.starts, strip.ends, strip.scores, strict=True)
        if source.start <= start and end <= source.end
    ]


def _tinted(source: "Source", spans: Sequence[_Span], top: float) -> str:
    """The text of a source, each interval on the colour of its heat."""
    parts, done = [], source.end - len(source.text.lstrip())
    for span in spans:
        # Tokens may share a character, and leave out white space between them.
        start, end = max(span.start, done), max(span.end, done)
        parts.append(escape(_between(source, done, start)))
        red, green, blue = _colour(span.score / top)
        strength = 0.55 * sqrt(span.score / top)
        parts.append(
            f'<span style="background:rgba({red},{green},{blue},{strength:.2f})" '
            f'title="score {span.score:.4f}">{escape(_between(source, start, end))}</span>'
        )
        done = end
    return "".join([*parts, escape(_between(source, done, source.end))])


def _between(source: "Source", start: int, end: int) -> str:
    return source.text[max(start - source.start, 0) : max(end - source.start, 0)]


def _place(start: int, end: int, strip: DocumentStrip) -> tuple[float, float]:
    scale = _WIDTH / strip.characters
    width = max((end - start) * scale, 1.5)  # still seen in a book
    return round(min(start * scale, _WIDTH - width), 2), round(width, 2)


def _heat(share: float) -> tuple[str, float]:
    red, green, blue = _colour(share)
    return f"rgb({red},{green},{blue})", round(0.06 + 0.94 * sqrt(share), 3)


def _colour(share: float) -> tuple[int, int, int]:
    """From amber to crimson; scores differ by orders of magnitude, so their roots are shown."""
    ramp = ((250, 190, 60), (240, 110, 50), (214, 30, 80))
    place = sqrt(share) * (len(ramp) - 1)
    low = min(int(place), len(ramp) - 2)
    red, green, blue = (
        round(a + (b - a) * (place - low)) for a, b in zip(ramp[low], ramp[low + 1], strict=True)
    )
    return red, green, blue


def _key() -> str:
    stops = ",".join(
        f"rgba({red},{green},{blue},{strength})"
        for share in (0.0, 0.25, 1.0)
        for (red, green, blue), (_, strength) in [(_colour(share), _heat(share))]
    )
    return (
        '<div class="key line dim"><span><i style="background:linear-gradient(90deg,'
        f'{stops})"></i>attention to each landmark</span>'
        '<span><i style="background:#2f6fde;height:6px"></i>refilled, numbered by score</span>'
        "</div>"
    )


def _spread(notes: Sequence[str]) -> str:
    return "".join(f"<span>{escape(note)}</span>" for note in notes)


def _where(start: int, end: int) -> str:
    return f"characters {start:,}\N{EN DASH}{end:,}"


def _shorten(text: str, length: int) -> str:
    words = " ".join(text.split())
    return words if len(words) <= length else f"{words[:length]}\N{HORIZONTAL ELLIPSIS}"
