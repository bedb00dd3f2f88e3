"""Commands whose Redis is away."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Acre
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
