"""Commands whose Redis is away."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Acre
from tests.cli.test_bad_input import check
from tests.store.proxy import silent_server
from tests.store.servers import free_port

COMMANDS = [
    ("ask", "Where is it?"),
    ("ingest", "ferry.txt"),
    ("documents",),
    ("delete", "ferry.txt"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize(
    "port",
    [
        pytest.param(free_port, id="dead"),
        pytest.param(lambda: None, id="silent", marks=pytest.mark.slow),
    ],
)
def test_a_redis_that_is_away_ends_a_command_with_one_line_in_time(
    acre: Acre, folder: Path, command: tuple[str, ...], port: Callable[[], int | None]
) -> None:
    assert (folder / "ferry.txt").exists()
    with silent_server() as silent:
        url = f"redis://:s3cret@127.0.0.1:{port() or silent}/0"
        started = time.monotonic()
        result = acre(*command, "--store", url)

    assert time.monotonic() - started < 15
    assert result.exit_code == 1
    (line,) = (line for line in result.stderr.splitlines() if not line.startswith("note:"))
    assert line.startswith("error: cannot")
    assert "s3cret" not in result.output


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://:s3cret@host:abc/0", "malformed"),
        ("redis://:s3cret@host:99999/0", "malformed"),
        ("redis://:s3cret@host?nonsense=1", "malformed"),
        ("redis+sentinel://:s3cret@host", "malformed"),
        ("redis+sentinel://:s3cret@host:99999/name", "malformed"),
        ("rediss+cluster://:s3cret@", "malformed"),
        ("redis://:s3cret@host?ttl_seconds=soon", "ttl_seconds is 'soon'"),
        ("redis://:s3cret@host?decode_responses=1", "leave out decode_responses"),
    ],
)
def test_a_url_that_makes_no_sense_is_misuse(
    acre: Acre, monkeypatch: pytest.MonkeyPatch, url: str, told: str
) -> None:
    result = acre("documents", "--store", url)

    check(result, 2, told)
    assert "s3cret" not in result.output

    monkeypatch.setenv("ACRE_STORE", url)
    check(acre("documents"), 2, told)


def test_a_redis_that_is_away_is_no_misuse_where_the_environment_names_it(
    acre: Acre, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACRE_STORE", f"redis+cluster://127.0.0.1:{free_port()}")

    check(acre("documents"), 1, "expected a cluster that answers")
