import errno
import os
import resource
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from acre_rag.errors import DamagedCacheError, StoreError
from acre_rag.store import DirectoryStore, files, open_store
from acre_rag.store.address import document_digest
from acre_rag.store.directory import STAGING_SECONDS

SPACE = "5bace0" * 4
OLD, NEW = "0" * 16, "1" * 16
HOUR = 3600


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "caches", lock_seconds=0.2)


def publish(store: DirectoryStore, document_id: str, version: str = OLD) -> None:
    with store.writer(SPACE, document_id, version) as writer:
        writer.write("l2:0", [b"body"])
        writer.publish(b"manifest")


def stage(store: DirectoryStore, document_id: str, version: str = NEW) -> Path:
    with store.writer(SPACE, document_id, version) as writer:
        writer.write("l2:0", [b"staged"])
    return Path(store.url) / SPACE / document_digest(document_id) / version


def _holds(folder: Path, value: bytes) -> bool:
    return (folder / "l2-0").read_bytes() == value


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def tree(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()
    }


@contextmanager
def failing(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, error: int
) -> Iterator[None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        yield


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("owner", "name"), [(Path, "open"), (Path, "replace"), (files.os, "fsync")]
)
@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (errno.ENOSPC, "free some"),
        (errno.EDQUOT, "free some"),
        (errno.EROFS, "choose another store"),
        (errno.EACCES, "change its owner or mode"),
        (errno.EIO, "look at the disk"),
    ],
)
def test_a_disk_that_refuses_loses_nothing(
    store: DirectoryStore,
    monkeypatch: pytest.MonkeyPatch,
    owner: object,
    name: str,
    error: int,
    remedy: str,
) -> None:
    publish(store, "a")

    with store.writer(SPACE, "a", NEW) as writer:
        writer.write("l2:0", [b"staged"])
        before = tree(Path(store.url))
        with failing(monkeypatch, owner, name, error), pytest.raises(StoreError, match=remedy):
            writer.publish(b"new")
        if name != "fsync":
            with failing(monkeypatch, owner, name, error), pytest.raises(StoreError, match=remedy):
                writer.write("l2:0", [b"other"])

    assert tree(Path(store.url)) == before
    assert store.load_manifest(SPACE, "a") == b"manifest"


def test_a_disk_that_fills_up_in_mid_value_loses_nothing(store: DirectoryStore) -> None:
    publish(store, "a")
    before = tree(Path(store.url))

    with store.writer(SPACE, "a", OLD) as writer:
        with largest_file(100_000), pytest.raises(StoreError, match="file sizes"):
            writer.write("l2:0", [b"x" * 60_000] * 3)
        with largest_file(100_000), pytest.raises(StoreError, match="file sizes"):
            writer.publish(b"y" * 200_000)

    assert tree(Path(store.url)) == before


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.load_manifest(SPACE, "a"),
        lambda store: store.read(SPACE, "a", OLD, "l2:0"),
        lambda store: list(store.manifests(SPACE)),
        lambda store: publish(store, "a"),
    ],
)
def test_a_file_where_a_folder_should_be_is_reported(
    store: DirectoryStore, use: Callable[[DirectoryStore], object]
) -> None:
    Path(store.url).mkdir()
    (Path(store.url) / SPACE).write_bytes(b"")

    with pytest.raises(StoreError, match="cannot"):
        use(store)


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(StoreError, match="expected a directory"):
        DirectoryStore(tmp_path / "file")


@contextmanager
def nobody() -> Iterator[None]:
    """Give up the right of root to read and write everything, for a while."""
    user = os.geteuid()
    os.seteuid(65534 if user == 0 else user)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_directory_of_somebody_else_can_be_read_but_not_written() -> None:
    with TemporaryDirectory() as folder:
        store = DirectoryStore(Path(folder) / "caches")
        publish(store, "a")
        places = [Path(folder), *(path for path in Path(folder).rglob("*") if path.is_dir())]
        for place in places:
            place.chmod(0o555)
        before = tree(Path(folder))

        with nobody():
            assert bytes(store.read(SPACE, "a", OLD, "l2:0")) == b"body"
            with pytest.raises(StoreError, match="permission"):
                publish(store, "b")
            with pytest.raises(StoreError, match="permission"):
                publish(store, "a")
            with pytest.raises(StoreError, match="permission"):
                store.delete(SPACE, "a")

        assert tree(Path(folder)) == before
        for place in places:
            place.chmod(0o700)


def test_a_value_that_may_not_be_read_is_reported() -> None:
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        store = DirectoryStore(folder)
        publish(store, "a")
        for path in Path(folder).rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0)

        with nobody():
            for use in (store.load_manifest, lambda *a: store.read(*a, OLD, "l2:0")):
                with pytest.raises(StoreError, match="permission") as caught:
                    use(SPACE, "a")
                assert not isinstance(caught.value, DamagedCacheError)


def test_a_path_that_pytorch_could_not_open_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="rename the directory"):
        DirectoryStore(tmp_path / "caf\udce9")


def test_open_views_hold_no_file_descriptors(store: DirectoryStore) -> None:
    with store.writer(SPACE, "a", OLD) as writer:
        for number in range(40):
            writer.write(f"l2:{number}", [bytes(5000)])
        writer.publish(b"m")
    before = len(list(Path("/proc/self/fd").iterdir()))

    views = [store.read(SPACE, "a", OLD, f"l2:{number}") for number in range(40)]

    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert sum(view.nbytes for view in views) == 40 * 5000


def test_writing_to_a_view_does_not_reach_the_disk(store: DirectoryStore) -> None:
    publish(store, "a")

    view = store.read(SPACE, "a", OLD, "l2:0")
    view[0] = 0

    assert bytes(store.read(SPACE, "a", OLD, "l2:0")) == b"body"


@pytest.mark.parametrize("own", [True, False])
def test_staging_expires_after_a_day(store: DirectoryStore, *, own: bool) -> None:
    publish(store, "a", OLD)
    staged = stage(store, "a", NEW)
    alone = stage(store, "b", NEW)
    for path in (staged, alone):
        age(path, STAGING_SECONDS + HOUR)
    age(staged.parent / OLD, STAGING_SECONDS + HOUR)

    with DirectoryStore(store.url).writer(SPACE, "a" if own else "c", NEW) as writer:
        assert writer.staged() == {}

    assert not (staged / "l2-0").exists()
    assert not alone.parent.exists()
    assert bytes(store.read(SPACE, "a", OLD, "l2:0")) == b"body"


def test_younger_staging_stays(store: DirectoryStore) -> None:
    staged = stage(store, "a")
    age(staged, STAGING_SECONDS - HOUR)

    publish(DirectoryStore(store.url), "b")

    assert _holds(staged, b"staged")


def test_the_staging_of_a_live_writer_never_expires(store: DirectoryStore) -> None:
    stage(store, "a")

    with store.writer(SPACE, "a", NEW) as writer:
        (values,) = Path(store.url).rglob(NEW)
        age(values, 2 * STAGING_SECONDS)
        publish(DirectoryStore(store.url), "b")

        assert set(writer.staged()) == {"l2:0"}


@pytest.mark.parametrize("damage", [b"", b"no version", b"x" * 1000, b"\n"])
def test_nothing_expires_beside_a_manifest_that_cannot_be_read(
    store: DirectoryStore, damage: bytes
) -> None:
    publish(store, "a", OLD)
    (manifest,) = Path(store.url).rglob("manifest")
    manifest.write_bytes(damage)
    age(manifest.parent / OLD, 2 * STAGING_SECONDS)

    with DirectoryStore(store.url).writer(SPACE, "a", NEW) as writer:
        assert _holds(manifest.parent / OLD, b"body")
        writer.publish(b"new")

    assert _holds(manifest.parent / OLD, b"body")
    assert store.load_manifest(SPACE, "a") == b"new"


def test_what_a_killed_writer_left_half_written_is_cleared(store: DirectoryStore) -> None:
    staged = stage(store, "a")
    (staged / "l2-1.partial").write_bytes(b"ha")
    (staged.parent / "manifest.partial").write_bytes(b"ha")

    with store.writer(SPACE, "a", NEW) as writer:
        assert set(writer.staged()) == {"l2:0"}

    assert not list(Path(store.url).rglob("*.partial"))


def test_a_store_that_is_made_is_for_its_user_alone(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "mine" / "caches")
    old = os.umask(0o022)
    try:
        publish(store, "a")
    finally:
        os.umask(old)

    made = [tmp_path / "mine", *(p for p in (tmp_path / "mine").rglob("*") if p.is_dir())]
    assert len(made) == 6
    assert {mode_of(folder) for folder in made} == {0o700}


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o770])
def test_a_directory_that_was_there_says_who_may_look_inside(tmp_path: Path, mode: int) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(mode)
    old = os.umask(0)
    try:
        publish(DirectoryStore(shared), "a")
    finally:
        os.umask(old)

    assert {mode_of(folder) for folder in shared.rglob("*") if folder.is_dir()} == {mode}


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("n" * 300, "File name too long'; expected a shorter path: choose another store"),
        ("n/" * 3000, "File name too long'; expected a shorter path: choose another store"),
        ("a\0b", "with a NUL"),
        ("~nobody-of-this-name/caches", "in the home of a user who has none"),
        (f"{__file__}/caches", "Not a directory'; expected a directory: choose another store"),
    ],
)
def test_a_place_that_cannot_be_is_one_clear_error(
    place: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(StoreError, match=message) as caught:
        open_store(place).load_manifest(SPACE, "a")

    assert len(str(caught.value)) < 600


def test_what_stands_in_the_place_of_a_folder_or_a_file_is_named(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    publish(store, "a")
    (locks,) = tmp_path.rglob("locks")
    shutil.rmtree(locks)
    locks.write_text("in the way")

    with pytest.raises(StoreError, match="expected a folder there: move away what stands in its"):
        publish(store, "a")

    locks.unlink()
    (manifest,) = tmp_path.rglob("manifest")
    manifest.unlink()
    manifest.mkdir()
    with pytest.raises(StoreError, match="expected a file there: move away the folder"):
        store.load_manifest(SPACE, "a")
