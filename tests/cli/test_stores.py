"""`acre stores`: copy, check, stats, on a directory and on a real Redis."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from acre_rag.cli.app import app
from tests.cli.conftest import Acre, objects
from tests.store.servers import running


@pytest.fixture(
    params=["directory", pytest.param("redis", marks=pytest.mark.redis)],
)
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a second store may be."""
    if request.param == "directory":
        yield str(tmp_path / "other")
        return
    folder = tmp_path / "redis"
    folder.mkdir()
    with running(folder) as server:
        yield server.url


@pytest.fixture
def filled(acre: Acre) -> Acre:
    """The command line over a store with two documents."""
    assert acre("ingest", "ferry.txt", "dryer.md").exit_code == 0
    return acre


def test_a_copied_store_is_asked_like_the_first(filled: Acre, folder: Path, other: str) -> None:
    copied = filled("stores", "copy", str(folder / "store"), other, "--json")
    asked = [
        objects(filled("ask", "Where are the keys?", "--store", store, "--json").stdout)[0]
        for store in (str(folder / "store"), other)
    ]

    assert copied.exit_code == 0
    assert [line["outcome"] for line in objects(copied.stdout)] == ["copied"] * 2
    assert all(line["bytes"] > 0 for line in objects(copied.stdout))
    assert asked[0]["answer"] == asked[1]["answer"]
    assert asked[1]["usage"]["encoded_tokens"] == 0


def test_a_copy_says_what_it_did(filled: Acre, folder: Path, other: str) -> None:
    first = filled("stores", "copy", str(folder / "store"), other)
    second = filled("stores", "copy", str(folder / "store"), other)

    assert sorted(line.partition(":")[0] for line in first.stdout.splitlines()) == [
        "dryer.md",
        "ferry.txt",
    ]
    assert first.stdout.count("copied") == second.stdout.count("there already") == 2


def test_a_sound_store_passes_its_check(filled: Acre, folder: Path, other: str) -> None:
    filled("stores", "copy", str(folder / "store"), other)

    for place in ([], [other]):
        result = filled("stores", "check", *place)

        assert (result.exit_code, result.stdout) == (0, "")
        assert "2 documents, " in result.stderr
        assert "0 damaged" in result.stderr


def test_damage_gives_a_line_each_and_an_exit_code(filled: Acre, folder: Path, other: str) -> None:
    (block,) = _first(folder, "l2-0")
    block.write_bytes(block.read_bytes()[:-1])
    _first(folder, "l1-0")[0].unlink()

    plain = filled("stores", "check")
    damages = objects(filled("stores", "check", "--json").stdout)
    copied = filled("stores", "copy", str(folder / "store"), other)

    assert plain.exit_code == copied.exit_code == 1
    assert len(plain.stdout.splitlines()) == len(damages) == 2
    assert sorted((damage["value"], damage["reason"]) for damage in damages) == [
        ("l1:0", "missing"),
        ("l2:0", "truncated"),
    ]
    assert "left out" in copied.stderr
    assert filled("stores", "check", other).exit_code == 0


def _first(folder: Path, name: str) -> list[Path]:
    return sorted((folder / "store").rglob(name))[:1]


def test_stats_count_by_space(filled: Acre, folder: Path, other_model_path: Path) -> None:
    filled("ingest", "ferry.txt", "--model", str(other_model_path))

    found = objects(filled("stores", "stats", "--json").stdout)
    table = filled("stores", "stats", str(folder / "store")).stdout.splitlines()

    assert sorted(line["documents"] for line in found) == [1, 2]
    listed = objects(filled("documents", "--json").stdout)
    assert sum(line["tokens"] for line in found) == sum(line["tokens"] for line in listed)
    assert sum(line["bytes"] for line in found) > sum(line["bytes"] for line in listed)
    assert table[0].split()[:4] == ["space", "model", "method", "stored"]
    assert len(table) == 3


def test_a_store_without_documents_is_no_source(acre: Acre, tmp_path: Path) -> None:
    result = acre("stores", "copy", str(tmp_path / "nothing"), str(tmp_path / "other"))

    assert result.exit_code == 1
    assert "holds no documents" in result.stderr
    assert acre("stores", "stats").stdout == "no documents; acre ingest PATH reads some\n"
    assert acre("stores", "check").exit_code == 0


def test_a_store_is_not_copied_into_itself(filled: Acre, folder: Path) -> None:
    result = filled("stores", "copy", str(folder / "store"), "store")

    assert result.exit_code == 2
    assert "twice" in result.stderr


@pytest.fixture
def key(tmp_path: Path) -> str:
    """A file with a key."""
    (tmp_path / "acre.key").write_text("ab" * 32, encoding="ascii")
    return str(tmp_path / "acre.key")


def test_a_plain_store_is_copied_into_an_encrypted_one_and_back(
    filled: Acre, folder: Path, key: str, other: str
) -> None:
    there = filled("stores", "copy", str(folder / "store"), other, "--to-key-file", key)
    back = filled("stores", "copy", other, str(folder / "again"), "--from-key-file", key)

    assert there.exit_code == back.exit_code == 0
    values = {p.name: p.read_bytes() for p in (folder / "store").rglob("l?-*")}
    assert values == {p.name: p.read_bytes() for p in (folder / "again").rglob("l?-*")}
    assert filled("stores", "check", other, "--key-file", key).exit_code == 0
    assert (
        len(objects(filled("documents", "--store", other, "--key-file", key, "--json").stdout)) == 2
    )


def test_an_encrypted_store_is_asked_with_its_key_alone(
    filled: Acre, folder: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = str(folder / "encrypted")
    read = filled("ingest", "ferry.txt", "--store", place, "--key-file", key)
    asked = filled("ask", "Where?", "--store", place, "--key-file", key, "--json")
    forgotten = filled("ingest", "dryer.md", "--store", place)
    monkeypatch.setenv("ACRE_STORE_KEY", "cd" * 32)
    wrong = filled("ask", "Where?", "--store", place)
    missing = filled("stores", "stats", place, "--key-file", "nothing")

    assert read.exit_code == asked.exit_code == 0
    assert (forgotten.exit_code, wrong.exit_code, missing.exit_code) == (1, 1, 2)
    assert "is encrypted; expected its key" in forgotten.stderr
    assert "a key that does not open" in wrong.stderr
    assert "cd" * 8 not in wrong.stderr
    assert "check the path" in missing.stderr


@pytest.mark.usefixtures("folder")
def test_no_model_is_loaded() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from acre_rag.cli.app import app; "
        "print(CliRunner().invoke(app, ['stores', 'check']).exit_code); "
        "print('transformers' in sys.modules)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=240
    )

    assert done.stdout == "0\nFalse\n"


@pytest.mark.parametrize("command", ["copy", "check", "stats", "pin", "unpin"])
def test_help_of_a_command_shows_an_example(command: str) -> None:
    result = CliRunner().invoke(app, ["stores", command, "--help"])

    assert result.exit_code == 0
    assert f"acre stores {command}" in result.stdout.partition("example:")[2]
