from pathlib import Path

import pytest

from acre_rag.errors import StoreError
from acre_rag.store import DirectoryStore, location, open_store


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_opens_a_directory(kind: type, tmp_path: Path) -> None:
    store = open_store(kind(tmp_path / "caches"))

    assert isinstance(store, DirectoryStore)
    assert store.url == str(tmp_path / "caches")


def test_a_tilde_is_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    assert open_store("~/caches").url == str(tmp_path / "caches")


def test_the_environment_names_the_store_when_nobody_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACRE_STORE", str(tmp_path / "there"))

    assert open_store().url == str(tmp_path / "there")
    assert open_store(tmp_path / "here").url == str(tmp_path / "here")


@pytest.mark.parametrize("empty", [True, False])
def test_the_default_is_a_directory_of_the_users_own(
    *, empty: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(location, "user_data_path", lambda name: tmp_path / name)
    if empty:
        monkeypatch.setenv("ACRE_STORE", "")
    else:
        monkeypatch.delenv("ACRE_STORE", raising=False)

    assert open_store().url == str(tmp_path / "acre_rag" / "store")


def test_opening_creates_nothing(tmp_path: Path) -> None:
    open_store(tmp_path / "caches").close()

    assert list(tmp_path.iterdir()) == []


def test_another_scheme_is_refused_without_telling_its_password() -> None:
    with pytest.raises(StoreError, match="redis://, rediss://, unix://") as caught:
        open_store("s3://me:secret@bucket/caches")

    assert "secret" not in str(caught.value)


def test_an_empty_location_is_refused() -> None:
    with pytest.raises(StoreError, match="path or a URL"):
        open_store("")
