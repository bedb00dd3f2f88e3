"""The refill map: what it carries, and the picture that notebooks show."""

import json
from html.parser import HTMLParser

import pytest

from acre_rag.answer import Answer, Retrieval, Seconds, Source, Usage
from acre_rag.refill_map import DocumentStrip, RefillMap
from acre_rag.text.document import Document
from tests.conftest import MakeEngine

USAGE = Usage(
    document_tokens=5,
    landmarks=3,
    refilled_tokens=4,
    encoded_tokens=0,
    recomputed_tokens=0,
    bytes_read=7,
)
SECONDS = Seconds(load=0.1, select=0.2, fetch=0.3, first_token=0.7, total=0.9)
HOSTILE = "<script>alert(\"1\")</script> & 'quoted' 👩‍👩‍👧 渡し船 العبّارة"


class Page(HTMLParser):
    """Reads a picture as a browser would: tags with attributes, and text; both must be in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def cells(self) -> list[dict[str, str | None]]:
        return [a for tag, a in self.tags if tag == "rect" and "fill-opacity" in a and "x" in a]

    def marks(self) -> list[dict[str, str | None]]:
        return [a for tag, a in self.tags if tag == "rect" and a.get("fill") == "#2f6fde"]


def strip(text: str, scores: tuple[float, ...], chosen: tuple[int, ...]) -> DocumentStrip:
    """Intervals of equal length over a text, which is the document's name as well."""
    size = len(text) // len(scores)
    starts = tuple(range(0, size * len(scores), size))
    ends = (*starts[1:], len(text))
    return DocumentStrip(
        document=text, characters=len(text), starts=starts, ends=ends, scores=scores, chosen=chosen
    )


def source(document: DocumentStrip, first: int, last: int) -> Source:
    start, end = document.starts[first], document.ends[last]
    score = sum(document.scores[first : last + 1])
    text = document.document[start:end]
    return Source(document=document.document, start=start, end=end, text=text, score=score)


def picture(*strips: DocumentStrip, sources: tuple[Source, ...], text: str = "yes") -> Page:
    answer = Answer(
        text=text,
        sources=sources,
        usage=USAGE,
        seconds=SECONDS,
        refill_map=RefillMap(strips=strips),
    )
    return Page(answer._repr_html_())


def test_a_map_covers_every_document_asked_with_scores_that_add_up_to_one(
    make_engine: MakeEngine,
) -> None:
    texts = {"a": "渡し船 🚢 leaves at nine, Grüße. " * 5, "b": "The oil is changed in May. " * 4}
    engine = make_engine()
    engine.ingest([Document(id=name, text=text) for name, text in texts.items()])

    answer = engine.ask("When?", ["b", "a"], 12, 2)

    strips = answer.refill_map.strips
    assert [one.document for one in strips] == ["b", "a"]
    assert sum(sum(one.scores) for one in strips) == pytest.approx(1)
    for one in strips:
        assert one.characters == len(texts[one.document])
        assert len(one.starts) == len(one.ends) == len(one.scores)
    chosen = {(s.document, s.starts[i], s.ends[i]) for s in strips for i in s.chosen}
    for name, start, end in chosen:
        assert any(s.document == name and s.start <= start and end <= s.end for s in answer.sources)
    assert engine.retrieve("When?", ["b", "a"]).refill_map.strips


def test_the_json_of_an_answer_knows_no_map(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.ingest([Document(id="a", text="The ferry leaves at nine.")])

    answer = engine.ask("When?", max_new_tokens=1)

    assert list(json.loads(json.dumps(answer.to_dict()))) == [
        "answer",
        "sources",
        "usage",
        "seconds",
        "plan",
    ]
    assert "refill_map" not in repr(answer)


def test_each_interval_has_its_place_and_the_hottest_its_colour() -> None:
    document = strip("aaaabbbbccccdddd", (0.1, 0.6, 0.25, 0.05), (1, 2))

    page = picture(document, sources=(source(document, 1, 2),))

    cells = page.cells()
    assert [float(cell["x"] or -1) for cell in cells] == [0, 250, 500, 750]
    strength = [float(cell["fill-opacity"] or 0) for cell in cells]
    assert max(strength) == strength[1] == 1
    assert sorted(strength) == [strength[i] for i in (3, 0, 2, 1)]
    (mark,) = page.marks()
    assert (mark["x"], mark["width"]) == ("250.0", "500.0")


def test_what_was_refilled_can_be_read_on_hover_and_below() -> None:
    document = strip("aaaabbbbccccdddd", (0.1, 0.6, 0.25, 0.05), (1, 2))

    page = picture(document, sources=(source(document, 1, 2),))

    text = page.text.replace(document.document, "name")
    assert "characters 4\N{EN DASH}8, score 0.6000\nbbbb" in text
    assert "1. refilled: characters 4\N{EN DASH}12, score 0.850\nbbbbcccc" in text
    assert text.count("bbbbcccc") == 3  # hover, one line, all of it
    assert "aaaa" not in text


@pytest.mark.parametrize("hostile", [HOSTILE, "]]>--></svg></div>", "\u202eabc", "a\x00b\r\n"])
def test_text_of_any_kind_is_shown_and_never_run(hostile: str) -> None:
    text = hostile * 2
    document = strip(text, (0.25, 0.75), (1,))

    page = picture(document, sources=(source(document, 1, 1),), text=hostile)

    assert {tag for tag, _ in page.tags} <= {
        "div", "style", "p", "span", "b", "bdi", "svg", "g", "rect", "title", "i", "details",
        "summary",
    }  # fmt: skip
    assert hostile.strip() in page.text.replace("\r\n", "\n") or "\r\n" in hostile
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_nothing_is_loaded_from_anywhere() -> None:
    document = strip("abcd", (0.5, 0.5), (0,))

    page = picture(document, sources=(source(document, 0, 0),))

    assert not {"src", "href"} & {name for _, attributes in page.tags for name in attributes}
    assert "url(" not in page.text
    assert "import" not in page.text


def test_a_book_is_drawn_in_few_cells_and_keeps_its_peak() -> None:
    scores = [1e-5] * 5000
    scores[3210] = 0.9
    document = strip("word" * 5000, tuple(scores), (3210,))

    page = picture(document, sources=(source(document, 3210, 3210),))

    assert len(page.cells()) <= 400
    assert max(float(cell["fill-opacity"] or 0) for cell in page.cells()) == 1
    (mark,) = page.marks()
    assert float(mark["width"] or 0) >= 1  # seen, though it is one in 5,000


def test_hundreds_of_sources_are_marked_and_the_best_listed() -> None:
    scores = tuple((i + 1) / 20_100 for i in range(200))
    document = strip("text" * 200, scores, tuple(range(0, 200, 2)))
    sources = tuple(source(document, i, i) for i in range(0, 200, 2))

    page = picture(document, sources=sources)

    assert len(page.marks()) == 100
    assert "94 more" in page.text
    assert "and 54 that scored less" in page.text


def test_each_of_several_documents_has_a_strip_and_its_name_beside_each_source() -> None:
    one, two = strip("first one", (0.2, 0.2), (0,)), strip("second", (0.4, 0.2), (0, 1))
    sources = (source(one, 0, 0), source(two, 0, 1))

    page = picture(one, two, sources=sources)

    assert sum(tag == "svg" for tag, _ in page.tags) == 2
    assert "60% of the attention" in page.text
    assert sum(tag == "bdi" for tag, _ in page.tags) == 4


def test_scores_of_nothing_and_maps_of_nothing_are_drawn_too() -> None:
    document = strip("abcd", (0.0, 0.0), ())

    assert len(picture(document, sources=()).cells()) == 2
    assert not picture(sources=()).cells()


def test_a_retrieval_is_drawn_without_an_answer() -> None:
    document = strip("abcd", (0.7, 0.3), (0,))
    found = Retrieval(
        sources=(source(document, 0, 0),),
        usage=USAGE,
        seconds=SECONDS,
        refill_map=RefillMap(strips=(document,)),
    )

    page = Page(found._repr_html_())

    assert "4 would be refilled" in page.text
    assert not any(attributes.get("class") == "said" for _, attributes in page.tags)
