"""Any changed ingredient gives another space; how the model computes gives the same."""

import json
from collections.abc import Callable
from dataclasses import Field, fields, replace

import pytest
import torch

from acre_rag.config import ACREConfig, Prompt
from acre_rag.model.identity import Identity
from acre_rag.model.landmarks import LandmarkAdapter
from acre_rag.model.local import LocalModel
from acre_rag.model.reader import DocumentReader
from tests.tiny import FAMILIES, SHORT_PROMPT, build, tiny_adapter, tiny_local, tiny_settings
from tests.tiny import tiny_tokenizer as make_tokenizer


def _space(
    local: LocalModel, adapter: LandmarkAdapter | None, config: ACREConfig | None = None
) -> str:
    return DocumentReader(local, adapter, config or tiny_settings()).identity.space


def _llama() -> tuple[LocalModel, LandmarkAdapter]:
    local = tiny_local("llama")
    return local, tiny_adapter(local.model.config)


@pytest.fixture(scope="module")
def space() -> str:
    return _space(*_llama())


def test_the_same_ingredients_give_the_same_space(space: str) -> None:
    assert _space(*_llama()) == space


@pytest.mark.parametrize("field", fields(Identity), ids=lambda field: field.name)
def test_every_field_of_an_identity_gives_another_space(field: Field[object]) -> None:
    names = ("weights", "architecture", "tokenizer", "prefix", "adapter", "stored_dtype")
    counts = ("interval_tokens", "window_tokens", "segment_tokens", "context_tokens")
    identity = Identity(
        **{name: name for name in names}, **{name: 7 + len(name) for name in counts}
    )
    value = getattr(identity, field.name)

    changed = replace(identity, **{field.name: value + ("'" if isinstance(value, str) else 1)})

    assert changed.space != identity.space


def _weight(local: LocalModel) -> None:
    with torch.no_grad():
        local.model.model.layers[1].mlp.up_proj.weight[3, 2] += 0.125


def _last_weight(local: LocalModel) -> None:
    with torch.no_grad():
        local.model.model.norm.weight[-1] *= 1.5


@pytest.mark.parametrize("change", [_weight, _last_weight])
def test_one_changed_weight_gives_another_space(
    space: str, change: Callable[[LocalModel], None]
) -> None:
    local, adapter = _llama()
    change(local)

    assert _space(local, adapter) != space


@pytest.mark.parametrize(
    "changes", [{"rope_theta": 10001.0}, {"rope_type": "linear", "factor": 2.0}]
)
def test_another_rope_gives_another_space(space: str, changes: dict[str, object]) -> None:
    config = FAMILIES["llama"]()
    config.rope_parameters = dict(config.rope_parameters) | changes
    local = replace(tiny_local("llama"), model=build(config))

    assert _space(local, tiny_adapter(config)) != space


def test_another_epsilon_gives_another_space(space: str) -> None:
    config = FAMILIES["llama"]()
    config.rms_norm_eps *= 2
    local = replace(tiny_local("llama"), model=build(config))

    assert _space(local, tiny_adapter(config)) != space


def _fewer_merges(backend: dict) -> None:
    backend["model"]["merges"].pop()


def _other_normalizer(backend: dict) -> None:
    backend["normalizer"] = {"type": "NFC"}


@pytest.mark.parametrize("change", [_fewer_merges, _other_normalizer])
def test_another_behaviour_of_the_tokenizer_gives_another_space(
    space: str, change: Callable[[dict], None]
) -> None:
    local, adapter = _llama()
    backend = json.loads(local.tokenizer.backend_tokenizer.to_str())
    change(backend)

    other = replace(local, tokenizer=make_tokenizer(json.dumps(backend)))

    assert _space(other, adapter) != space


def test_an_added_token_gives_another_space(space: str) -> None:
    local, adapter = _llama()
    local.tokenizer.add_tokens(["hen"])

    assert _space(local, adapter) != space


def test_how_the_tokenizer_was_used_last_changes_nothing(space: str) -> None:
    local, adapter = _llama()
    local.tokenizer(["a", "b c d"], padding=True, truncation=True, max_length=2)
    local.tokenizer("a", split_special_tokens=True)

    assert _space(local, adapter) == space


def test_what_stands_before_the_documents_gives_another_space(space: str) -> None:
    local, adapter = _llama()
    introduction = replace(SHORT_PROMPT, introduction="Look.\n")
    assert _space(local, adapter, tiny_settings(prompt=introduction)) != space

    local.tokenizer.chat_template = (
        "<|im_start|>system\nHi<|im_end|>" + local.tokenizer.chat_template
    )

    assert _space(local, adapter) != space


def test_what_follows_the_documents_changes_nothing(space: str) -> None:
    local, adapter = _llama()
    prompt = Prompt(introduction=SHORT_PROMPT.introduction, question="{question}", instructions="")
    local.tokenizer.chat_template = local.tokenizer.chat_template.replace("assistant", "model")

    assert _space(local, adapter, tiny_settings(prompt=prompt)) == space


@pytest.mark.parametrize("part", ["embedding", "down", "up"])
def test_one_changed_element_of_the_adapter_gives_another_space(space: str, part: str) -> None:
    local, adapter = _llama()
    tensor = (
        adapter.embedding if part == "embedding" else getattr(adapter.projections[2]["v"], part)
    )
    tensor.view(-1)[-1] += 0.25

    assert _space(local, adapter) != space


def test_no_adapter_and_full_projections_give_spaces_of_their_own(space: str) -> None:
    local, _ = _llama()

    others = {_space(local, None), _space(local, tiny_adapter(local.model.config, "full"))}

    assert len(others | {space}) == 3


def test_selection_weights_choose_and_so_change_nothing(space: str) -> None:
    local, adapter = _llama()

    assert _space(local, replace(adapter, selection=None)) == space


@pytest.mark.parametrize(
    "changes",
    [
        {"stored_dtype": "bfloat16"},
        {"stored_dtype": "float16"},
        {"stored_dtype": "int8"},
        {"stored_dtype": "int8-int4"},
        {"window_tokens": 24},
        {"segment_tokens": 12},
        {"window_tokens": 16, "segment_tokens": 32},
        {"context_tokens": 26},
    ],
)
def test_each_setting_of_reading_gives_another_space(
    space: str, changes: dict[str, object]
) -> None:
    assert _space(*_llama(), tiny_settings(**changes)) != space


def test_another_interval_gives_another_space(space: str) -> None:
    assert _space(*_llama(), tiny_settings(interval_tokens=2)) != space


@pytest.mark.parametrize(
    "changes", [{"selection": "published"}, {"on_damage": "raise"}, {"context_tokens": 600}]
)
def test_settings_of_asking_change_nothing(space: str, changes: dict[str, object]) -> None:
    assert _space(*_llama(), tiny_settings(**changes)) == space


def test_a_context_decides_how_documents_are_read_without_an_adapter() -> None:
    local, _ = _llama()

    assert _space(local, None) != _space(local, None, tiny_settings(context_tokens=600))


def test_the_computing_dtype_is_no_part() -> None:
    rounded = tiny_local("llama", torch.bfloat16)
    wide = replace(rounded, model=tiny_local("llama", torch.bfloat16).model.float())
    adapter = tiny_adapter(rounded.model.config)

    assert wide.model.dtype == torch.float32
    assert _space(wide, adapter) == _space(rounded, adapter)


def test_how_attention_is_computed_is_no_part(space: str) -> None:
    local, adapter = _llama()
    local.model.set_attn_implementation("eager")

    assert _space(local, adapter) == space


def test_names_are_no_part(space: str) -> None:
    local, adapter = _llama()
    local.model.config._name_or_path = "/some/other/place"

    assert _space(replace(local, name="another"), adapter) == space
