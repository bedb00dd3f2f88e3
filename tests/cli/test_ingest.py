"""`acre ingest`."""

import re
from pathlib import Path

from rich.progress import Progress

from acre_rag.cli.ingest import _bar
from acre_rag.model.local import LocalModel
from tests.cli.conftest import Acre, objects


def test_a_file_is_stored_under_its_path_as_given(acre: Acre) -> None:
    result = acre("ingest", "ferry.txt", "./dryer.md")

    assert result.exit_code == 0
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == [
        "ferry.txt",
        "./dryer.md",
    ]


def test_a_folder_is_walked(acre: Acre, folder: Path) -> None:
    (folder / "reports" / "old").mkdir(parents=True)
    (folder / "reports" / "b.txt").write_text("Nothing new.")
    (folder / "reports" / "old" / "a.md").write_text("Nothing old.")

    result = acre("ingest", "reports", "--json")

    assert [line["document"] for line in objects(result.stdout)] == [
        "reports/b.txt",
        "reports/old/a.md",
    ]


def test_what_has_not_changed_is_not_read_again(acre: Acre) -> None:
    first = objects(acre("ingest", "ferry.txt", "--json").stdout)[0]

    second = objects(acre("ingest", "ferry.txt", "--json").stdout)[0]

    assert set(first) == {"document", "tokens", "encoded_tokens", "seconds"}
    assert first["encoded_tokens"] == first["tokens"] == second["tokens"] > 0
    assert second["encoded_tokens"] == 0


def test_people_are_told_what_was_stored_already(acre: Acre) -> None:
    acre("ingest", "ferry.txt")

    assert "stored already" in acre("ingest", "ferry.txt").stdout


def test_a_changed_file_replaces_its_cache(acre: Acre, folder: Path) -> None:
    acre("ingest", "ferry.txt")
    (folder / "ferry.txt").write_text("It leaves at ten now.")

    acre("ingest", "ferry.txt")

    facts = objects(acre("inspect", "ferry.txt", "--json").stdout)
    assert [fact["characters"] for fact in facts] == [len("It leaves at ten now.")]


def test_without_an_adapter_the_training_free_mode_says_so(acre: Acre) -> None:
    assert "training-free" in acre("ingest", "ferry.txt").stderr
    assert acre("ingest", "ferry.txt", "--adapter", "none").stderr == ""


def test_an_adapter_brings_its_interval(acre: Acre, adapter_path: Path) -> None:
    result = acre("ingest", "ferry.txt", "--adapter", str(adapter_path))

    assert (result.exit_code, result.stderr) == (0, "")
    facts = objects(acre("inspect", "ferry.txt", "--json").stdout)[0]
    assert (facts["method"], facts["interval_tokens"]) == ("landmarks", 8)


def test_a_bad_page_ends_the_command_and_what_came_before_is_stored(
    acre: Acre, folder: Path
) -> None:
    (folder / "bad.html").write_bytes(b"\0\1\2")

    result = acre("ingest", "ferry.txt", "bad.html", "dryer.md")

    assert result.exit_code == 1
    assert "'bad.html' is binary" in result.stderr
    stored = objects(acre("documents", "--json").stdout)
    assert [line["document"] for line in stored] == ["ferry.txt"]


def test_quantized_caches_are_smaller_and_asked_with_the_same_option(acre: Acre) -> None:
    acre("ingest", "ferry.txt", "--stored", "bfloat16")
    for form in ("int8", "int8-int4"):
        acre("ingest", "ferry.txt", "--stored", form)

    sizes = {line["dtype"]: line["bytes"] for line in _inspected(acre)}
    asked = acre("ask", "Where are the keys?", "--stored", "int8-int4", "--json")

    assert sizes["int8-int4"] < sizes["int8"] < 0.7 * sizes["bfloat16"]
    assert objects(asked.stdout)[0]["usage"]["encoded_tokens"] == 0
    assert acre("ask", "Where?", "--stored", "float16").exit_code == 1


def _inspected(acre: Acre) -> list[dict[str, object]]:
    return objects(acre("inspect", "ferry.txt", "--json").stdout)


def test_a_bar_is_gone_when_its_document_is_done() -> None:
    with Progress(disable=True) as progress:
        with _bar(progress, "ferry.txt") as show:
            show("ferry.txt", 3, 9)  # the rest was read by an earlier run
            assert [(task.completed, task.total) for task in progress.tasks] == [(3, 9)]

        assert progress.tasks == []


def test_a_model_with_a_short_context_reads_in_shorter_steps(
    acre: Acre, local: LocalModel, folder: Path
) -> None:
    local.model.save_pretrained(folder / "short")
    local.tokenizer.save_pretrained(folder / "short")
    short = ("--model", "short", "--adapter", "none")

    refused = acre("ingest", "ferry.txt", *short)
    (told,) = re.findall(r"lower window_tokens \(--window-tokens\) to that", refused.stderr)
    (fitting,) = re.findall(r"expected (\d+) or so", refused.stderr)
    window = ("--window-tokens", fitting)

    assert (refused.exit_code, bool(told)) == (1, True)
    assert acre("ingest", "ferry.txt", *short, *window).exit_code == 0
    answer = acre("ask", "When?", "--max-new-tokens", "3", *short, *window)
    assert (answer.exit_code, answer.stderr) == (0, "")


def test_a_step_that_holds_no_whole_intervals_cannot_be_meant(acre: Acre) -> None:
    result = acre("ingest", "ferry.txt", "--window-tokens", "100")

    assert result.exit_code == 2
    assert "expected a multiple of interval_tokens" in result.stderr


def test_a_byte_that_changed_in_place_is_found_and_mended_with_check(
    acre: Acre, tmp_path: Path
) -> None:
    acre("ingest", "ferry.txt")
    value = next((tmp_path / "store").rglob("l2-0"))
    data = value.read_bytes()
    value.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))

    trusting = objects(acre("ingest", "ferry.txt", "--json").stdout)[0]
    checking = objects(acre("ingest", "ferry.txt", "--json", "--check").stdout)[0]

    assert (trusting["encoded_tokens"], checking["encoded_tokens"]) == (0, checking["tokens"])
    assert value.read_bytes() == data
