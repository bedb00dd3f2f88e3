import json
import subprocess
import sys
from pathlib import Path

import pytest

from acre_rag.cost import KeptSpeeds, ModelSpeeds, StoreSpeeds, kept
from tests.cost.samples import MODEL, STORE

FOR = {"device": "cpu", "threads": 2}


def _file(directory: Path) -> Path:
    (found,) = directory.iterdir()
    return found


def test_constants_survive_the_process(tmp_path: Path) -> None:
    KeptSpeeds(tmp_path).keep(MODEL, FOR)
    code = (
        "import sys; from pathlib import Path; from acre_rag.cost import *\n"
        f"found = KeptSpeeds(Path(sys.argv[1])).load(ModelSpeeds, {FOR!r})\n"
        "print(found.prefill.per_token, found.restore_l2)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True, text=True, check=True, timeout=240,
        env={"PYTHONPATH": ":".join([".", *sys.path])},
    )  # fmt: skip

    assert done.stdout.split() == ["0.01", "0.0003"]
    assert KeptSpeeds(tmp_path).load(ModelSpeeds, FOR) == MODEL


def test_both_kinds_are_kept_side_by_side(tmp_path: Path) -> None:
    speeds = KeptSpeeds(tmp_path)
    speeds.keep(MODEL, FOR)
    speeds.keep(STORE, FOR)

    assert speeds.load(ModelSpeeds, FOR) == MODEL
    assert speeds.load(StoreSpeeds, FOR) == STORE


@pytest.mark.parametrize("change", [{"device": "cuda"}, {"threads": 3}, {"store": "x"}])
def test_constants_of_another_thing_are_not_found(
    tmp_path: Path, change: dict[str, object]
) -> None:
    KeptSpeeds(tmp_path).keep(MODEL, FOR)

    assert KeptSpeeds(tmp_path).load(ModelSpeeds, FOR | change) is None


@pytest.mark.parametrize(("name", "value"), [("__version__", "99.9"), ("SPEEDS_FORMAT", 99)])
def test_constants_of_another_version_are_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    KeptSpeeds(tmp_path).keep(MODEL, FOR)
    monkeypatch.setattr(kept, name, value)

    assert KeptSpeeds(tmp_path).load(ModelSpeeds, FOR) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[: len(text) // 2],
        lambda _: "",
        lambda _: "[]",
        lambda text: text.replace("0.0003", "NaN"),
        lambda text: text.replace("0.0003", "-0.0003"),
        lambda text: text.replace("0.0003", "true"),
        lambda text: text.replace("restore_l2", "restore_l3"),
        lambda text: text.replace('"cpu"', '"tpu"'),
        lambda text: text.replace('"fixed": 1.0', '"fixed": {}'),
    ],
)  # fmt: skip
def test_a_damaged_file_is_as_good_as_none_and_is_replaced(tmp_path: Path, change: object) -> None:
    speeds = KeptSpeeds(tmp_path)
    speeds.keep(MODEL, FOR)
    file = _file(tmp_path)
    text = file.read_text()
    file.write_text(change(text))  # type: ignore[operator]
    assert file.read_text() != text

    assert speeds.load(ModelSpeeds, FOR) is None
    speeds.keep(MODEL, FOR)
    assert speeds.load(ModelSpeeds, FOR) == MODEL


def test_bytes_that_are_no_text_are_as_good_as_none(tmp_path: Path) -> None:
    speeds = KeptSpeeds(tmp_path)
    speeds.keep(MODEL, FOR)
    _file(tmp_path).write_bytes(b"\xff\xfe\x00")

    assert speeds.load(ModelSpeeds, FOR) is None


def test_a_place_that_takes_no_files_costs_only_another_measurement(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    speeds = KeptSpeeds(tmp_path / "file" / "speeds")

    speeds.keep(MODEL, FOR)

    assert speeds.load(ModelSpeeds, FOR) is None


def test_a_kept_file_is_json_that_says_what_it_is_for(tmp_path: Path) -> None:
    KeptSpeeds(tmp_path).keep(STORE, FOR)

    told = json.loads(_file(tmp_path).read_text())["for"]
    assert told["device"] == "cpu"
    assert told["kind"] == "StoreSpeeds"
    assert {"acre_rag", "format"} <= told.keys()
