"""A scene over the tiny Llama, as small as it can be."""

from pathlib import Path

import pytest

from acre_rag.bench.scene import Scene, Sizes
from acre_rag.model.landmarks import LandmarkAdapter
from acre_rag.model.local import LocalModel
from tests.tiny import tiny_settings


@pytest.fixture
def scene(local: LocalModel, adapter: LandmarkAdapter, tmp_path: Path) -> Scene:
    """Documents of sixty tokens and of more than the context."""
    return Scene(
        local=local,
        adapter=adapter,
        config=tiny_settings(),
        sizes=Sizes(
            tokens=(300, 700),
            rounds=2,
            longest=2000,
            documents=2,
            new_tokens=4,
            askers=2,
            seconds=0.3,
        ),
        folder=tmp_path,
    )
