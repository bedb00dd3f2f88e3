"""`ACREByteStore` in a directory and in Redis: LangChain's standard suites, and our promises."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from langchain_tests.integration_tests.base_store import BaseStoreAsyncTests, BaseStoreSyncTests
from redis import Redis

from acre_langchain import ACREByteStore
from tests.store.servers import Server, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


def _directory(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("tmp_path") / "bytes")


def _redis(request: pytest.FixtureRequest) -> str:
    server: Server = request.getfixturevalue("server")
    with Redis(port=server.port) as client:
        client.flushall()
    return server.url


@pytest.fixture(
    params=[
        pytest.param(_directory, id="directory"),
        pytest.param(_redis, id="redis", marks=pytest.mark.redis),
    ]
)
def location(request: pytest.FixtureRequest) -> str:
    """Every kind of place in turn, with nothing in it."""
    return str(request.param(request))


@pytest.fixture
def bytes_store(location: str) -> Iterator[ACREByteStore]:
    store = ACREByteStore(location)
    yield store
    store.close()


class TestByteStore(BaseStoreSyncTests[bytes]):
    @pytest.fixture
    def kv_store(self, bytes_store: ACREByteStore) -> ACREByteStore:
        return bytes_store

    @pytest.fixture
    def three_values(self) -> tuple[bytes, bytes, bytes]:
        return b"foo", b"", bytes(range(256))


class TestByteStoreAsync(BaseStoreAsyncTests[bytes]):
    @pytest.fixture
    async def kv_store(self, bytes_store: ACREByteStore) -> ACREByteStore:
        return bytes_store

    @pytest.fixture
    def three_values(self) -> tuple[bytes, bytes, bytes]:
        return b"foo", b"", bytes(range(256))


def test_values_outlive_the_store_that_was_given_them(location: str) -> None:
    first = ACREByteStore(location)
    first.mset([("fähre/🚢 ../x", b"nine")])
    first.close()

    second = ACREByteStore(location)

    assert second.mget(["fähre/🚢 ../x"]) == [b"nine"]
    assert list(second.yield_keys(prefix="fähre/")) == ["fähre/🚢 ../x"]
    second.close()


def test_a_damaged_value_is_taken_for_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = ACREByteStore(tmp_path)
    store.mset([("a", b"nine"), ("b", b"ten")])
    (file,) = [path for path in tmp_path.rglob("manifest") if path.read_bytes().endswith(b"nine")]
    file.write_bytes(file.read_bytes()[:-1] + b"f")

    with caplog.at_level(logging.WARNING):
        assert store.mget(["a", "b"]) == [None, b"ten"]

    assert "the value of 'a'" in caplog.text
    assert list(store.yield_keys()) == ["b"]
