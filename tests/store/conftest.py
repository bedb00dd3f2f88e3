from collections.abc import Iterator

import pytest
from redis import Redis

from acre_rag.store import CacheStore
from tests.store.places import DirectoryPlace, Place, RedisPlace
from tests.store.servers import Server, running


def _directory(request: pytest.FixtureRequest) -> Place:
    return DirectoryPlace(request.getfixturevalue("tmp_path") / "caches")


def _redis(request: pytest.FixtureRequest) -> Place:
    return RedisPlace(request.getfixturevalue("redis_server").url)


PLACES = [
    pytest.param(_directory, id="directory"),
    pytest.param(_redis, id="redis", marks=pytest.mark.redis),
]


@pytest.fixture(scope="session")
def shared_redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("redis"), "--maxmemory", "512mb") as server:
        yield server


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
