"""The command line as processes of their own: signals, pipes, limits, what standard error holds."""

import resource
import signal
import time
from pathlib import Path

from tests.cli.conftest import TEXT, Acre, Start, objects


def test_a_second_process_answers_without_reading_again(start: Start) -> None:
    ingested = start("ingest", "ferry.txt", "--adapter", "none")
    assert ingested.communicate(timeout=240)[1] == ""

    asked = start("ask", "When?", "--json", "--adapter", "none", "--max-new-tokens", "3")
    output, errors = asked.communicate(timeout=240)

    assert (asked.returncode, errors) == (0, "")
    assert objects(output)[0]["usage"]["encoded_tokens"] == 0


def test_an_interrupted_run_is_picked_up(start: Start, acre: Acre, folder: Path) -> None:
    (folder / "long.txt").write_text(TEXT * 200)
    process = start("ingest", "long.txt", "--adapter", "none")
    deadline = time.monotonic() + 120
    while not list((folder / "store").rglob("l1-0")) and time.monotonic() < deadline:
        time.sleep(0.01)

    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=240)

    assert (process.returncode, output) == (130, "")
    assert errors.startswith("interrupted; what was read is kept")
    assert errors.count("\n") == 1
    assert acre("documents", "--json").stdout == ""  # half a document is none
    (done,) = objects(acre("ingest", "long.txt", "--adapter", "none", "--json").stdout)
    assert 0 < done["encoded_tokens"] < done["tokens"]


def test_a_full_disk_is_one_line_and_loses_nothing(start: Start, acre: Acre, folder: Path) -> None:
    acre("ingest", "dryer.md")
    before = acre("inspect", "dryer.md", "--json").stdout

    def limit() -> None:
        # Stands in for a full disk: no file may grow beyond so many bytes.
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    (folder / "ferry.txt").write_text(TEXT * 4)
    process = start("ingest", "ferry.txt", "--adapter", "none", limit=limit)
    output, errors = process.communicate(timeout=240)

    assert (process.returncode, output) == (1, "")
    assert errors.startswith("error: cannot write ")
    assert errors.count("\n") == 1
    listed = [line["document"] for line in objects(acre("documents", "--json").stdout)]
    assert listed == ["dryer.md"]
    assert acre("inspect", "dryer.md", "--json").stdout == before


def test_a_reader_that_goes_away_is_no_error(start: Start, acre: Acre) -> None:
    acre("ingest", "ferry.txt")
    process = start("documents")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()

    errors = process.stderr.read()

    assert process.wait(timeout=240) in {0, 1}
    process.stderr.close()
    assert errors == ""


def test_an_unexpected_error_is_one_line_and_in_full_with_debug(start: Start) -> None:
    # A device that torch has never heard of is refused deep inside of it.
    line = ("ingest", "ferry.txt", "--device", "abacus")

    short, full = start(*line), start(*line, "--debug")
    short_errors, full_errors = short.communicate(timeout=240)[1], full.communicate(timeout=240)[1]

    assert (short.returncode, full.returncode) == (1, 1)
    assert short_errors.startswith("error: ")
    assert short_errors.count("\n") == 1
    assert "Traceback" in full_errors
