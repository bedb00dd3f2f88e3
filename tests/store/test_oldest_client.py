"""The oldest redis-py that is allowed, in place of the one that is installed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUITES = ("contract", "redis", "redis_kinds", "redis_receiver", "redis_selection", "redis_use")


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_stores_keep_their_promises_with_the_oldest_client_too(tmp_path: Path) -> None:
    found = re.search(r'"redis>=([\d.]+)', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert found is not None
    oldest = found[1]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    fetched = subprocess.run(
        [*pip, "--target", str(tmp_path), f"redis=={oldest}"],
        check=False,
        capture_output=True,
        text=True,
    )
    if fetched.returncode:
        pytest.skip(f"redis-py {oldest} cannot be had: {fetched.stderr.strip()[-300:]}")
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path}

    version = subprocess.run(
        [sys.executable, "-c", "import redis; print(redis.__version__)"],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-m", "redis and not slow"),
            *(f"tests/store/test_{suite}.py" for suite in SUITES),
        ],
        check=False,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )

    assert version.stdout.strip() == oldest
    assert done.returncode == 0, done.stdout[-5000:]
    assert re.search(r"\b[1-9]\d+ passed", done.stdout)
