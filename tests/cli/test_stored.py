"""`acre documents`, `acre inspect` and `acre delete`: no model is needed for them."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from acre_rag.model.adapter_files import AdapterCard, save_adapter
from acre_rag.model.location import DEMO_MODEL
from acre_rag.store.redis import RedisStore
from tests.cli.conftest import TEXT, Acre, objects
from tests.store.servers import Server, running
from tests.tiny import FAMILIES, tiny_adapter


@pytest.fixture
def adapter_of_demo(
    tmp_path_factory: pytest.TempPathFactory, model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The tiny model with an adapter of its own, in place of the demo model."""
    root = tmp_path_factory.mktemp("cache")
    (root / "models").mkdir()
    (root / "models" / DEMO_MODEL).symlink_to(model_path)
    monkeypatch.setenv("ACRE_CACHE", str(root))
    path = root / "adapter"
    save_adapter(
        tiny_adapter(FAMILIES["llama"](), interval_tokens=16),
        path,
        AdapterCard(base_model=DEMO_MODEL, notes={}),
    )
    monkeypatch.setattr("acre_rag.engine.adapter.demo_adapter_directory", lambda: path)
    return path


@pytest.fixture
def twice(acre: Acre, other_model_path: Path) -> Acre:
    """The command line over a store with one document read by two models, one by the first."""
    acre("ingest", "ferry.txt", "dryer.md")
    acre("ingest", "ferry.txt", "--model", str(other_model_path))
    return acre


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path / "redis") as started:
        yield started


def test_documents_lists_those_of_every_model(twice: Acre) -> None:
    listed = objects(twice("documents", "--json").stdout)

    assert [line["document"] for line in listed] == ["dryer.md", "ferry.txt", "ferry.txt"]
    assert len({line["space"] for line in listed}) == 2


def test_documents_lists_those_of_one_model(twice: Acre, other_model_path: Path) -> None:
    listed = objects(twice("documents", "--json", "--model", str(other_model_path)).stdout)

    assert [line["document"] for line in listed] == ["ferry.txt"]


def test_documents_shows_a_table_to_people(twice: Acre) -> None:
    lines = twice("documents").stdout.splitlines()

    assert lines[0].split() == ["document", "space", "model", "tokens", "size", "created"]
    assert len(lines) == 4


def test_an_empty_store_says_what_to_do(acre: Acre) -> None:
    result = acre("documents")

    assert (result.exit_code, result.stdout) == (0, "no documents; acre ingest PATH reads some\n")
    assert acre("documents", "--json").stdout == ""


def test_inspect_shows_what_a_cache_consists_of(acre: Acre, folder: Path) -> None:
    acre("ingest", "ferry.txt")

    (facts,) = objects(acre("inspect", "ferry.txt", "--json").stdout)

    assert facts["characters"] == len(TEXT)
    assert facts["landmarks"] == -(-facts["tokens"] // facts["interval_tokens"])
    assert facts["method"] == "training-free"
    assert facts["dtype"] == "int8"
    assert facts["metadata"] == {"path": "ferry.txt", "media_type": "text/plain"}
    files = [file.name for file in (folder / "store").rglob("l?-*")]
    assert facts["blocks"] == {
        "l1": sum(name.startswith("l1-") for name in files),
        "l2": sum(name.startswith("l2-") for name in files),
    }


def test_inspect_shows_every_model_that_read_a_document(twice: Acre) -> None:
    assert len(objects(twice("inspect", "ferry.txt", "--json").stdout)) == 2
    assert twice("inspect", "ferry.txt").stdout.count("media_type text/plain") == 2


def test_delete_removes_a_document_whatever_model_read_it(twice: Acre) -> None:
    result = twice("delete", "ferry.txt")

    assert (result.exit_code, result.stdout) == (0, "ferry.txt: deleted, 2 caches\n")
    left = objects(twice("documents", "--json").stdout)
    assert [line["document"] for line in left] == ["dryer.md"]


def test_delete_leaves_the_caches_of_other_models(twice: Acre, other_model_path: Path) -> None:
    result = twice("delete", "ferry.txt", "--model", str(other_model_path), "--json")

    assert objects(result.stdout) == [{"document": "ferry.txt", "caches": 1}]
    left = objects(twice("documents", "--json").stdout)
    assert sorted(line["document"] for line in left) == ["dryer.md", "ferry.txt"]


def test_delete_takes_one_stored_form_alone_where_it_is_named(
    acre: Acre, adapter_of_demo: Path
) -> None:
    del adapter_of_demo
    for form in ("int8", "bfloat16"):
        assert acre("ingest", "ferry.txt", "--model", DEMO_MODEL, "--stored", form).exit_code == 0

    result = acre("delete", "ferry.txt", "--stored", "int8", "--dtype", "float32")
    assert (result.exit_code, result.stdout) == (0, "ferry.txt: deleted\n")
    (left,) = objects(acre("documents", "--json").stdout)
    assert left["dtype"] == "bfloat16"

    # The default, said aloud, picks a form too.
    result = acre("delete", "ferry.txt", "--stored", "int8")
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(objects(acre("documents", "--json").stdout)) == 1
    assert acre("documents", "--json", "--stored", "int8").stdout == ""


def test_delete_names_what_was_not_there_and_removes_the_rest(twice: Acre) -> None:
    result = twice("delete", "nothing.txt", "dryer.md")

    assert result.exit_code == 1
    assert "holds no 'nothing.txt'" in result.stderr
    assert result.stdout == "dryer.md: deleted\n"


@pytest.mark.redis
def test_documents_are_pinned_and_unpinned_whatever_model_read_them(
    twice: Acre, folder: Path, server: Server
) -> None:
    place = ("--store", f"{server.url}?ttl_seconds=3600")
    twice("stores", "copy", str(folder / "store"), place[1])

    def pinned() -> list[bool]:
        with closing(RedisStore(server.url)) as store:
            return sorted(use.pinned for use in store.uses())

    assert twice("stores", "pin", "ferry.txt", *place).stdout == "ferry.txt: pinned\n"
    assert pinned() == [False, True, True]
    (shown,) = objects(twice("stores", "unpin", "ferry.txt", *place, "--json").stdout)
    assert shown == {"document": "ferry.txt", "pinned": False}
    assert pinned() == [False] * 3

    missing = twice("stores", "pin", "nothing.txt", "dryer.md", *place)
    assert (missing.exit_code, missing.stdout) == (1, "dryer.md: pinned\n")
    assert "nothing.txt" in missing.stderr
