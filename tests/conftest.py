"""Fixtures for all tests: tiny models, their adapters, engines over stores of their own."""

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch

# Read once, when the hub's client is imported: no test may wait for a network.
os.environ["HF_HUB_OFFLINE"] = "1"

from acre_rag.config import ACREConfig
from acre_rag.engine import ACREEngine
from acre_rag.model.landmarks import LandmarkAdapter
from acre_rag.model.local import LocalModel
from acre_rag.store import CacheStore
from tests.tiny import FAMILIES, tiny_adapter, tiny_local, tiny_settings

MakeEngine = Callable[..., ACREEngine]
FindLocal = Callable[..., LocalModel]


@pytest.fixture(autouse=True)
def _apart_from_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep every test out of the user's own directories."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACRE_STORE", str(tmp_path_factory.getbasetemp() / "default-store"))
        yield


@pytest.fixture
def rng() -> torch.Generator:
    """Random numbers that are the same in every run."""
    return torch.Generator().manual_seed(7)


@pytest.fixture(scope="session")
def find_local() -> FindLocal:
    """Find a tiny model by family and dtype; made once, nothing may change it."""
    return cache(tiny_local)


@pytest.fixture(scope="session")
def local(find_local: FindLocal) -> LocalModel:
    """A tiny Llama in float32."""
    return find_local("llama", torch.float32)


@pytest.fixture(params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    """Every family in turn."""
    return str(request.param)


@pytest.fixture(params=["low-rank", "full"])
def any_adapter(request: pytest.FixtureRequest, local: LocalModel) -> LandmarkAdapter:
    """Both kinds of landmark adapters for the tiny Llama."""
    return tiny_adapter(local.model.config, request.param)


@pytest.fixture
def adapter(local: LocalModel) -> LandmarkAdapter:
    """A low-rank landmark adapter for the tiny Llama."""
    return tiny_adapter(local.model.config)


@pytest.fixture
def settings() -> ACREConfig:
    """Settings with several windows and segments in some sixty tokens."""
    return tiny_settings()


@pytest.fixture
def make_engine(tmp_path: Path, local: LocalModel) -> Iterator[MakeEngine]:
    """Make engines over the tiny Llama and one store, unless others are named.

    `make_engine(adapter="none")` is one in the training-free mode.
    """
    made = []

    def make(
        *,
        model: LocalModel = local,
        adapter: LandmarkAdapter | str | None = None,
        store: CacheStore | Path | None = None,
        config: ACREConfig | None = None,
    ) -> ACREEngine:
        engine = ACREEngine(
            model=model,
            adapter=tiny_adapter(model.model.config) if adapter is None else adapter,
            store=tmp_path / "caches" if store is None else store,
            config=config or tiny_settings(),
        )
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.close()
