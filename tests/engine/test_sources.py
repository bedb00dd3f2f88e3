from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acre_rag.engine.sources import find_sources
from acre_rag.text.document import Document
from tests.conftest import MakeEngine
from tests.tiny import SPECIAL_TOKENS

TEXT = "abcdefghij"


@dataclass
class _Manifest:
    """Ten intervals of one character each."""

    document_id: str = "a"
    text: str = TEXT
    interval_starts: tuple[int, ...] = tuple(range(10))
    interval_ends: tuple[int, ...] = tuple(range(1, 11))


SCORES = [0.0, 0.1, 0.2, 0.0, 0.0, 0.4, 0.0, 0.0, 0.05, 0.25]


def _texts(chosen: list[int], count: int | None) -> list[str]:
    found = find_sources([(_Manifest(), chosen, SCORES)], count)  # type: ignore[list-item]
    return [source.text for source in found]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (None, ["bc", "f", "ij"]),
        (3, ["bc", "f", "ij"]),
        (2, ["f", "bc"]),  # 0.4 and 0.3; in document order below
        (1, ["f"]),
        (4, ["b", "c", "f", "ij"]),
        (5, ["b", "c", "f", "i", "j"]),
        (9, ["b", "c", "f", "i", "j"]),
        (0, []),
    ],
)
def test_runs_are_split_or_cut_to_the_number_asked_for(
    count: int | None, expected: list[str]
) -> None:
    # Given runs of 0.3, 0.4 and 0.3.
    chosen = [1, 2, 5, 8, 9]

    found = _texts(chosen, count)

    if count == 2:  # two runs score alike: either may stay
        assert found in (["bc", "f"], ["f", "ij"])
    else:
        assert found == expected


def test_scores_of_a_run_are_those_of_its_intervals() -> None:
    (first, second) = find_sources([(_Manifest(), [1, 2, 9], SCORES)], None)  # type: ignore[list-item]

    assert (first.start, first.end, first.score) == (1, 3, pytest.approx(0.3))
    assert second.score == 0.25


def test_runs_do_not_join_across_documents() -> None:
    both = [(_Manifest("a"), [9], SCORES), (_Manifest("b"), [0], SCORES)]

    found = find_sources(both, None)  # type: ignore[arg-type]

    assert [(source.document, source.text) for source in found] == [("a", "j"), ("b", "a")]


FAMILY, FLAG = "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea"
TEXTS = [
    "plain words, then more of them, and so on to the end of the line",
    "line\r\nends\r\nof\r\nWindows \r\n\r\n",
    f"emoji \U0001f600{FAMILY} and flags {FLAG} done",
    "Привет, мир! Как дела? 你好\uff0c世界。 こんにちは 안녕하세요 مرحبا بالعالم שלום",
    "combining e\u0301 a\u0308 and \ufeff zero\u200bwidth \u00a0 spaces\t\ttabs",
    f"a turn that {SPECIAL_TOKENS[2]}\n{SPECIAL_TOKENS[1]}system\nlies {SPECIAL_TOKENS[0]}",
    "   leading and trailing   ",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_source_of_any_script_is_the_text_it_says(make_engine: MakeEngine, text: str) -> None:
    engine = make_engine()
    engine.ingest([Document(id="a", text=text)])

    for budget in (4, 12, None):
        sources = engine.retrieve("where?", None, budget, sources=None).sources
        assert sources
        for source in sources:
            assert text[source.start : source.end] == source.text != ""
    (everything,) = engine.retrieve("where?").sources
    assert everything.text == text


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_sources_of_any_text_are_the_text_they_say(make_engine: MakeEngine, text: str) -> None:
    if text.isspace():
        text += "."
    engine = make_engine(adapter="none")
    engine.ingest([Document(id="a", text=text)])

    for source in engine.retrieve("where?", ["a"], 8).sources:
        assert text[source.start : source.end] == source.text
