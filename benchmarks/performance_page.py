"""Put what was measured into docs/performance.md, from the JSON in `benchmarks/results/`.

Run it from the root of the repository:

    python -m benchmarks.performance_page

Between `<!-- report: FOLDER -->` and `<!-- end -->` the page gets the tables and pictures of the
parts that lie in that folder of the results; a folder without any is said not to be measured.
"""

import re
from pathlib import Path

from acre_rag.bench.parts import Measured, read_parts
from acre_rag.bench.report import draw, markdown

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"
_PICTURES = Path("pictures") / "performance"
_BLOCK = re.compile(r"(<!-- report: (\S+) -->\n).*?(<!-- end -->)", flags=re.DOTALL)


def main() -> None:
    """Renew the tables of the page, and draw its pictures."""
    page = PAGE.read_text(encoding="utf-8")
    for name in folders(page):
        draw(_parts(name, RESULTS), PAGE.parent / _PICTURES / name)
    PAGE.write_text(filled(page, RESULTS), encoding="utf-8")


def folders(page: str) -> list[str]:
    """List the folders of results that a page has tables of."""
    return [match[2] for match in _BLOCK.finditer(page)]


def filled(page: str, results: Path) -> str:
    """Put the tables of each folder between its marks, in place of what was there."""
    return _BLOCK.sub(lambda match: f"{match[1]}{_tables(match[2], results)}{match[3]}", page)


def _tables(name: str, results: Path) -> str:
    parts = _parts(name, results)
    if not parts:
        return "\nNot measured.\n\n"
    files = ", ".join(f"`{part.part}.json`" for part in parts)
    tables = re.sub(r"^## ", "#### ", markdown(parts), flags=re.MULTILINE)
    pictures = [
        f"![{part.part}]({(_PICTURES / name / part.part).as_posix()}.png)\n"
        for part in parts
        if part.findings.comparisons or part.findings.curves
    ]
    return "\n".join([f"\nFrom `benchmarks/results/{name}/`: {files}.\n", tables, *pictures, ""])


def _parts(name: str, results: Path) -> list[Measured]:
    folder = results / name
    return read_parts([folder]) if any(folder.glob("*.json")) else []


if __name__ == "__main__":
    main()
