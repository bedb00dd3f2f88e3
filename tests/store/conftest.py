from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
from redis import Redis

from acre_rag.store import CacheStore
from tests.store.places import DirectoryPlace, EncryptedPlace, Place, RedisPlace, cluster_client
from tests.store.servers import Server, running, running_cluster


def _directory(request: pytest.FixtureRequest) -> Place:
    return DirectoryPlace(request.getfixturevalue("tmp_path") / "caches")


def _redis(request: pytest.FixtureRequest) -> Place:
    return RedisPlace(request.getfixturevalue("redis_server").url)


def _redis_reused(request: pytest.FixtureRequest) -> Place:
    return RedisPlace(f"{request.getfixturevalue('redis_server').url}?buffers=reused")


def _redis_cluster(request: pytest.FixtureRequest) -> Place:
    servers: list[Server] = request.getfixturevalue("shared_redis_cluster")
    for server in servers:
        with Redis(port=server.port) as client:
            client.flushall()
    return RedisPlace(f"redis+cluster://127.0.0.1:{servers[0].port}")


def _encrypted(request: pytest.FixtureRequest) -> Place:
    return EncryptedPlace(request.getfixturevalue("tmp_path") / "encrypted")


PLACES = [
    pytest.param(_directory, id="directory"),
    pytest.param(_encrypted, id="encrypted"),
    pytest.param(_redis, id="redis", marks=pytest.mark.redis),
    pytest.param(_redis_reused, id="redis-reused", marks=[pytest.mark.redis, pytest.mark.slow]),
    pytest.param(_redis_cluster, id="redis-cluster", marks=[pytest.mark.redis, pytest.mark.slow]),
]


@pytest.fixture(scope="session")
def shared_redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("redis"), "--maxmemory", "512mb") as server:
        yield server


@pytest.fixture(scope="session")
def shared_redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    with running_cluster(tmp_path_factory.mktemp("cluster")) as servers:
        yield servers
        cluster_client(f"redis://127.0.0.1:{servers[0].port}").close()
        cluster_client.cache_clear()


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """Start processes at once: they are forked off one that has loaded what they need.

    What it loads is settled when the first one starts, so it is everything that any of them needs.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.store.test_concurrency", "tests.store.test_faults"])
    first = context.Process(target=int)
    first.start()
    first.join()
    return context


@pytest.fixture
def redis_server(shared_redis_server: Server) -> Server:
    """A real server with nothing in it."""
    with Redis(port=shared_redis_server.port) as client:
        client.flushall()
    return shared_redis_server


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Place:
    """Every kind of store in turn."""
    made: Place = request.param(request)
    return made


@pytest.fixture
def store(place: Place) -> Iterator[CacheStore]:
    opened = place.open()
    yield opened
    opened.close()


# A wrong cache that is served once in a thousand runs is a fault: these have no second try.
_ONE_TRY = frozenset(
    f"test_{part}.py" for part in ("codec", "concurrency", "copying", "corruption", "faults")
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests of what a store may never get wrong one try, whatever the command line says."""
    for item in items:
        if item.path.parent == Path(__file__).parent and item.path.name in _ONE_TRY:
            item.add_marker(pytest.mark.flaky(reruns=0))
