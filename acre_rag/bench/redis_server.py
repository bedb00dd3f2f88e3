"""A Redis server for the length of a measurement."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from acre_rag.errors import ConfigError

_SECONDS = 20


@contextmanager
def running_redis(folder: Path) -> Iterator[str | None]:
    """Start a server that keeps everything in memory, where one is installed: its URL, or `None`.

    Raises:
        ConfigError: It does not answer.
    """
    binary = shutil.which("redis-server")
    if binary is None:
        yield None
        return
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"port": str(port), "bind": "127.0.0.1", "save": "", "dir": str(folder)}
    line = [binary, *(word for name, value in settings.items() for word in (f"--{name}", value))]
    server = subprocess.Popen(line, stdout=subprocess.DEVNULL)  # noqa: S603  # found above
    try:
        _wait_for(port)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.kill()
        server.wait()


def _wait_for(port: int) -> None:
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise ConfigError(
        f"redis-server did not answer within {_SECONDS} s; expected it to start: see whether "
        "memory is left, or name a server of your own with --redis"
    )
