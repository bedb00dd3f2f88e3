"""Parts on disk, merged into a page."""

import json
from pathlib import Path

import pytest

from acre_rag.bench.figures import Comparison, Curve, Findings
from acre_rag.bench.parts import PARTS, Measured, chosen, read_part, read_parts, write_part
from acre_rag.bench.report import draw, markdown
from acre_rag.errors import ConfigError

PROVENANCE = {
    "date": "2026-01-31T12:00:00+00:00",
    "commit": "abc",
    "processor": "a processor",
    "gpu": None,
    "threads": 2,
    "torch": "2",
    "transformers": "5",
}
SETTINGS = {"model": "tiny", "dtype": "float32", "rounds": 2}


def _part(name: str, **changes: object) -> Measured:
    comparison = Comparison(
        what="first token",
        against="full prefill",
        tokens=1234,
        ours=(0.5, 0.25),
        theirs=(2.0, 3.0),
        goal=20.0,
    )
    curve = Curve(
        what="encode", of="tokens", sizes=(10.0, 20.0), seconds=(1.0, 4.0), why="so it is"
    )
    found = {
        "encode": Findings(comparisons=(comparison,), notes=("a thing was left out",)),
        "length": Findings(curves=(curve,)),
        "machine": Findings(facts={"speed, GB/s": 12345.6}),
    }
    provenance = PROVENANCE | {k: v for k, v in changes.items() if k in PROVENANCE}
    settings = SETTINGS | {k: v for k, v in changes.items() if k in SETTINGS}
    return Measured(part=name, settings=settings, provenance=provenance, findings=found[name])


def _written(folder: Path, *parts: Measured) -> Path:
    for number, part in enumerate(parts):
        write_part(part, folder / f"{number}.json")
    return folder


def test_parts_are_merged_in_the_order_of_a_report_however_they_are_named(tmp_path: Path) -> None:
    parts = [_part("length"), _part("machine"), _part("encode")]
    folder = _written(tmp_path / "results", *parts)

    merged = read_parts([folder])

    assert [one.part for one in merged] == ["machine", "encode", "length"]
    assert merged == [parts[1], parts[2], parts[0]]
    assert read_parts(sorted(folder.iterdir(), reverse=True)) == merged


def test_the_page_tells_every_figure_and_where_it_comes_from() -> None:
    page = markdown([_part("machine"), _part("encode"), _part("length")])

    row = "| 1,234 | first token | full prefill | 375 ms | 2,500 ms | 8.00 (4.00-12.00) |  | 20 |"
    assert row in page.splitlines()
    assert "**encode** grows with tokens to the power of 2.00: so it is." in page
    assert "| speed, GB/s | 12,345.6 |" in page
    assert "Note: a thing was left out." in page
    assert page.count("a processor, 2 threads, 2 rounds, 2026-01-31, commit abc") == 3


def test_a_picture_is_drawn_of_each_part_that_has_figures(tmp_path: Path) -> None:
    drawn = draw([_part("machine"), _part("encode"), _part("length")], tmp_path / "new")

    assert [path.name for path in drawn] == ["encode.png", "length.png"]
    assert all(path.stat().st_size > 1000 for path in drawn)


def test_a_part_that_comes_twice_is_refused(tmp_path: Path) -> None:
    folder = _written(tmp_path, _part("encode"), _part("encode"))
    with pytest.raises(ConfigError, match=r"encode twice, again in .*drop one"):
        read_parts([folder])


@pytest.mark.parametrize("changes", [{"model": "other"}, {"dtype": "x"}, {"processor": "y"}])
def test_parts_of_several_models_or_machines_are_refused(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    folder = _written(tmp_path, _part("encode"), _part("length", **changes))
    with pytest.raises(ConfigError, match=f"several kinds of {next(iter(changes))}"):
        read_parts([folder])


def test_nothing_to_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no file to report"):
        read_parts([tmp_path])


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "7", "{}", '{"acre_bench": 1}'),
        json.dumps(dict.fromkeys(("acre_bench", "part", "settings", "provenance", "findings"))),
    ],
)
def test_what_is_no_part_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="is no part of a measurement"):
        read_part(path)
    with pytest.raises(ConfigError, match="is no part of a measurement"):
        read_part(tmp_path / "not there.json")


@pytest.mark.parametrize("change", [{"part": "nothing"}, {"acre_bench": 2}, {"findings": {}}])
def test_a_part_of_another_kind_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "part.json"
    write_part(_part("encode"), path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change), encoding="utf-8")
    with pytest.raises(ConfigError, match="is no part of a measurement"):
        read_part(path)


def test_parts_are_chosen_by_name_once_each() -> None:
    assert chosen(None) == list(PARTS)
    assert chosen(["load", "encode", "load"]) == ["load", "encode"]
    with pytest.raises(ConfigError, match="no part called 'fetch'"):
        chosen(["encode", "fetch"])
