from dataclasses import replace

import pytest

from acre_rag.config import Prompt
from acre_rag.errors import ConfigError
from acre_rag.model.landmarks import LandmarkAdapter
from acre_rag.model.local import LocalModel
from acre_rag.model.reader import DocumentReader, selection_weights
from tests.tiny import CONTEXT, LAYERS, Q_HEADS, tiny_local, tiny_settings

PREFIX = 11
WINDOW, LANDMARKS = 12, 3


def _reader(
    local: LocalModel, adapter: LandmarkAdapter | None, **changes: object
) -> DocumentReader:
    return DocumentReader(local, adapter, tiny_settings(**changes))


@pytest.mark.parametrize("windows", [1, 2, 5])
def test_a_segment_is_as_long_as_its_last_window_fits_the_context(
    local: LocalModel, adapter: LandmarkAdapter, windows: int
) -> None:
    # Prefix, landmarks of the windows before, and the last window with its own.
    needed = PREFIX + (windows - 1) * LANDMARKS + WINDOW + LANDMARKS
    far = {"segment_tokens": 100 * WINDOW}

    assert _reader(local, adapter, context_tokens=needed, **far).segment_tokens == windows * WINDOW
    if windows > 1:
        shorter = _reader(local, adapter, context_tokens=needed - 1, **far).segment_tokens
        assert shorter == (windows - 1) * WINDOW


def test_a_window_that_fits_no_context_is_refused(
    local: LocalModel, adapter: LandmarkAdapter
) -> None:
    least = PREFIX + WINDOW + LANDMARKS

    assert _reader(local, adapter, context_tokens=least).segment_tokens == WINDOW
    with pytest.raises(ConfigError, match=f"takes {least} tokens of a context of {least - 1}"):
        _reader(local, adapter, context_tokens=least - 1)


def test_the_context_is_never_longer_than_the_models_own(
    local: LocalModel, adapter: LandmarkAdapter
) -> None:
    assert _reader(local, adapter, context_tokens=10**6).context_tokens == CONTEXT


def test_without_an_adapter_documents_within_the_context_are_read_exactly(
    local: LocalModel,
) -> None:
    reader = _reader(local, None, context_tokens=60)

    assert reader.method(60 - PREFIX) == "exact"
    assert reader.method(60 - PREFIX + 1) == "pooled"
    assert reader.layout(60 - PREFIX).segments == 1
    assert reader.layout(60 - PREFIX + 1).segments == 3


def test_weights_without_an_adapter_are_those_of_the_middle_layers(local: LocalModel) -> None:
    weights = selection_weights(local, None)

    assert weights is not None
    assert weights.shape == (LAYERS, Q_HEADS, 3)
    assert float(weights.sum()) == pytest.approx(1)
    assert [bool(layer.any()) for layer in weights] == [False, True, False]
    assert not weights[:, :, 1:].any()


def test_an_adapter_brings_its_own_weights(local: LocalModel, adapter: LandmarkAdapter) -> None:
    assert selection_weights(local, adapter) is adapter.selection
    assert selection_weights(local, replace(adapter, selection=None)) is None


def test_a_prompt_with_nothing_before_the_documents_is_refused() -> None:
    local = tiny_local("llama")
    local.tokenizer.chat_template = "{{ messages[0]['content'] }}"

    with pytest.raises(ConfigError, match="nothing stands before the documents"):
        _reader(local, None, prompt=Prompt(introduction=""))
