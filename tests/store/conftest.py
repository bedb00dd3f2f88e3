from collections.abc import Callable, Iterator

import pytest

from acre_rag.store import CacheStore
from tests.store.places import DirectoryPlace, Place


def _directory(request: pytest.FixtureRequest) -> Place:
    return DirectoryPlace(request.getfixturevalue("tmp_path") / "caches")


PLACES: dict[str, Callable[[pytest.FixtureRequest], Place]] = {"directory": _directory}


@pytest.fixture(params=list(PLACES))
def place(request: pytest.FixtureRequest) -> Place:
    """Every kind of store in turn."""
    return PLACES[request.param](request)


@pytest.fixture
def store(place: Place) -> Iterator[CacheStore]:
    opened = place.open()
    yield opened
    opened.close()
