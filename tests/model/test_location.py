"""A wrong name of a model: one clear error, at once; a hub's name works from its cache."""

import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from acre_rag.errors import ModelError
from acre_rag.model.local import LocalModel
from acre_rag.model.location import check_name


@pytest.fixture(scope="module")
def saved(local: LocalModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    local.model.save_pretrained(path)
    local.tokenizer.save_pretrained(path)
    return path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """A hub on this machine that knows no model; what it was asked of the models of tests."""
    paths: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "-one/" in self.path:  # not what the client asks for its own sake
                paths.append(self.path)
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815  # as the server calls it

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    files = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    yield paths
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name", ["/nonexist", "./no/such", "a/b/c", "..x", "", "two words"])
def test_what_can_only_be_a_path_is_refused_without_asking_the_hub(
    name: str, asked: list[str]
) -> None:
    with pytest.raises(ModelError, match=f"found no directory '{name}'; expected"):
        LocalModel.load(name, device="cpu")

    assert asked == []


def test_a_name_that_the_hub_does_not_know_is_asked_for_once(asked: list[str]) -> None:
    with pytest.raises(ModelError, match=r"the hub has no such model.*check the spelling"):
        LocalModel.load("no-one/has-this-model", device="cpu")

    assert asked == ["/api/models/no-one/has-this-model"]


def test_a_hub_out_of_reach_is_one_quick_error(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    started = time.monotonic()

    with pytest.raises(ModelError, match=r"the hub cannot be asked.*and the network"):
        LocalModel.load("no-one/has-this-model", device="cpu")

    assert time.monotonic() - started < 15  # a first retry alone would wait a second, a fifth 8
    assert asked == []
    assert caplog.records == []


@pytest.fixture
def cached(saved: Path, tmp_path: Path) -> Path:
    """The folder of a model's files in the hub's cache."""
    folder = tmp_path / "hub" / "models--some-one--tiny"
    files = Path(shutil.copytree(saved, folder / "snapshots" / ("0" * 40)))
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    return files


def test_a_model_in_the_hubs_cache_is_loaded_without_asking(
    cached: Path, asked: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    del cached  # it is there

    loaded = LocalModel.load("some-one/tiny", device="cpu")

    assert loaded.name == "some-one/tiny"
    assert asked == []
    assert caplog.records == []  # nobody else was asked, again and again


@pytest.mark.parametrize(
    ("file", "content", "found"),
    [
        ("model.safetensors", None, r".*no file named model\.safetensors"),
        ("model.safetensors", b"cut", ".*header too small"),
        ("tokenizer.json", b"{", "Expecting property name"),
    ],
)
def test_a_broken_model_in_the_hubs_cache_is_told_what_is_broken_and_where_it_lies(
    cached: Path, asked: list[str], file: str, content: bytes | None, found: str
) -> None:
    (cached / file).unlink()
    if content is not None:
        (cached / file).write_bytes(content)

    told = (
        rf"the copy of model 'some-one/tiny' in the hub's cache cannot be loaded \({found}.*\), "
        rf"and the hub has no such model.*: remove {cached.parents[1]} and fetch it again"
    )
    with pytest.raises(ModelError, match=told):
        LocalModel.load("some-one/tiny", device="cpu")

    assert asked == ["/api/models/some-one/tiny"]


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", "has no config.json; expected .*add what is missing"),
        ("model.safetensors", "has no weights"),
        ("tokenizer.json", "has no tokenizer .tokenizer.json."),
    ],
)
def test_a_directory_without_a_file_is_told_which(
    saved: Path, tmp_path: Path, missing: str, message: str
) -> None:
    for file in saved.iterdir():
        if file.name != missing:
            shutil.copy(file, tmp_path)

    with pytest.raises(ModelError, match=message):
        check_name(str(tmp_path))


def test_a_file_is_no_model(saved: Path) -> None:
    with pytest.raises(ModelError, match=r"is a file; expected a directory"):
        check_name(str(saved / "config.json"))
