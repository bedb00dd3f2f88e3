"""docs/performance.md shows what lies in benchmarks/results, and nothing else."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from acre_rag.bench.parts import PARTS, measure, write_part
from acre_rag.bench.scene import Scene
from acre_rag.cli.app import app
from benchmarks.performance_page import PAGE, RESULTS, filled, folders

MARKED = "before\n<!-- report: here -->\nold\n<!-- end -->\nbehind\n"


def test_the_tables_of_the_page_are_those_of_the_results() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert len(folders(page)) == len(set(folders(page))) > 1
    assert filled(page, RESULTS) == page  # else run python -m benchmarks.performance_page


def test_every_folder_of_measured_parts_is_on_the_page() -> None:
    measured = {p.parent for p in RESULTS.rglob("*.json") if '"acre_bench"' in p.read_text()[:99]}

    shown = {RESULTS / name for name in folders(PAGE.read_text(encoding="utf-8"))}
    assert measured <= shown


def test_links_and_pictures_of_the_page_lead_somewhere() -> None:
    for path in re.findall(r"\]\(([^#)]+)\)", PAGE.read_text(encoding="utf-8")):
        assert (PAGE.parent / path).exists(), path


def test_the_page_says_how_to_measure_every_part() -> None:
    page = PAGE.read_text(encoding="utf-8")
    commands = re.findall(r"acre bench ([^#\n]*)", page.partition("## How to measure it")[2])
    told = {part for line in commands for part in re.findall(r"--part ([\w-]+)", line)}

    assert told == set(PARTS)
    for line in commands:  # options are real: help is shown before anything is done
        assert CliRunner().invoke(app, ["bench", *line.split(), "--help"]).exit_code == 0, line


def test_a_figure_that_changes_changes_the_page(scene: Scene, tmp_path: Path) -> None:
    file = tmp_path / "here" / "machine.json"
    write_part(measure("machine", scene), file)
    page = filled(MARKED, tmp_path)

    record = json.loads(file.read_text(encoding="utf-8"))
    record["findings"]["facts"]["copy, GB/s"] = 12345.6
    file.write_text(json.dumps(record), encoding="utf-8")

    assert filled(page, tmp_path) != page
    assert "| copy, GB/s | 12,345.6 |" in filled(page, tmp_path)
    assert page.startswith("before\n")
    assert page.endswith("<!-- end -->\nbehind\n")
    assert "old" not in page


def test_what_was_not_measured_says_so(tmp_path: Path) -> None:
    assert "\nNot measured.\n" in filled(MARKED, tmp_path)


@pytest.mark.parametrize("page", ["", "<!-- report: here -->\nno end\n"])
def test_a_page_without_marks_stays(page: str, tmp_path: Path) -> None:
    assert filled(page, tmp_path) == page
