"""An engine whose tiny model talks on and on, word by word, for every integration."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from acre_rag import ACREEngine, Document, LocalModel
from acre_rag.model.decode import Watch
from tests.conftest import MakeEngine
from tests.tiny import FAMILIES, build, tiny_settings, tiny_tokenizer

# Offsets count characters: one, two, three and four bytes of UTF-8, and emoji of several.
SCRIPTS = (
    "The ferry leaves at nine. Grüße aus Köln! Паром уходит в девять. "
    "渡し船は九時に出ます。 العبّارة تغادر في التاسعة. 👩‍👩‍👧 waves 🇳🇴 🚢 and leaves. "
)
FERRY = Document(id="ferry", text=SCRIPTS * 2, metadata={"kind": "notes", "titel": "Fähre 🚢"})
DRYER = Document(
    id="dryer",
    text="The dryer stands on the east side. The oil is changed in May and again in autumn. " * 3,
    metadata={"kind": "manual", "year": 2021},
)


# Longer windows than other tests have: these ask for documents that are read fast.
TALKER_SETTINGS = tiny_settings(window_tokens=48, segment_tokens=96)


def make_talker() -> LocalModel:
    """Make a tiny Llama with room to talk; each of its tokens starts a word, and none ends it."""
    tokenizer = tiny_tokenizer()
    config = FAMILIES["llama"]()
    config.max_position_embeddings = 4096
    model = build(config)
    names = tokenizer.get_vocab().items()
    words = [place for name, place in names if name.startswith("Ġ") and name != "Ġ"]
    with torch.no_grad():
        mute = torch.ones(len(tokenizer), dtype=torch.bool)
        mute[words] = False
        model.get_output_embeddings().weight[mute] = 0
    return LocalModel(model=model, tokenizer=tokenizer, name="talker")


@pytest.fixture(scope="session")
def talker() -> LocalModel:
    """A tiny Llama that talks on and on, made once."""
    return make_talker()


@pytest.fixture
def empty_engine(make_engine: MakeEngine, talker: LocalModel) -> Iterator[ACREEngine]:
    """An engine over an empty store; what was left half said has ended before the next test."""
    made = make_engine(model=talker, config=TALKER_SETTINGS)
    yield made
    asyncio.run(made.worker.run(lambda: None))


@pytest.fixture
def engine(empty_engine: ACREEngine) -> ACREEngine:
    """An engine that has read two documents."""
    empty_engine.ingest([FERRY, DRYER])
    return empty_engine


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When each token is made from now on, which takes so long that thousands take a minute."""
    made: list[float] = []
    look = Watch.__call__

    def slowly(watch: Watch, ids: Tensor, scores: Tensor, **rest: object) -> Tensor:
        made.append(time.monotonic())
        time.sleep(0.02)
        return look(watch, ids, scores, **rest)

    monkeypatch.setattr(Watch, "__call__", slowly)
    return made


def decoding_threads() -> list[threading.Thread]:
    """Threads in which a model is generating right now."""
    return [thread for thread in threading.enumerate() if thread.name == "acre-decode"]
