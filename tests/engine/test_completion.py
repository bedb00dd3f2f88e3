"""The model by itself: what it says, what that costs, and what it refuses."""

from dataclasses import replace

import pytest
import torch

from acre_rag.engine import ACREEngine
from acre_rag.errors import BudgetError, ConfigError, DocumentNotFoundError
from acre_rag.model.local import LocalModel
from acre_rag.text.document import Document
from tests.conftest import MakeEngine
from tests.tiny import CONTEXT, tiny_adapter, tiny_settings, tiny_tokenizer

MESSAGES = [("system", "Be kind."), ("user", "Go on"), ("assistant", "No."), ("user", "Please!")]


@pytest.fixture
def engine(make_engine: MakeEngine) -> ACREEngine:
    return make_engine()


def generated(local: LocalModel, ids: list[int], length: int) -> list[int]:
    """What the stock model makes of token ids."""
    rows = torch.tensor([ids])
    made = local.model.generate(
        rows, attention_mask=torch.ones_like(rows), max_new_tokens=length, do_sample=False
    )
    return made[0, len(ids) :].tolist()


def test_messages_are_answered_as_the_stock_model_does(
    engine: ACREEngine, local: LocalModel
) -> None:
    turns = [{"role": role, "content": text} for role, text in MESSAGES]
    ids = local.tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
    theirs = generated(local, ids, 9)

    ours = engine.complete(MESSAGES, 9)

    assert "".join(ours) == local.tokenizer.decode(theirs, skip_special_tokens=True)
    assert ours.prompt_tokens == len(ids)
    assert ours.new_tokens == len(theirs)


@pytest.mark.parametrize("prompt", ["the ferry and the", MESSAGES])
def test_token_ids_are_those_that_the_model_would_be_given(
    engine: ACREEngine, prompt: str | list[tuple[str, str]]
) -> None:
    assert len(engine.token_ids(prompt)) == engine.complete(prompt, 1).prompt_tokens
    with pytest.raises(ConfigError, match="is empty; expected"):
        engine.token_ids(prompt[:0])


def test_a_string_is_completed_as_it_stands(engine: ACREEngine, local: LocalModel) -> None:
    ids = local.tokenizer.encode("the ferry and the", add_special_tokens=False)

    ours = "".join(engine.complete("the ferry and the", 9))

    assert ours == local.tokenizer.decode(generated(local, ids, 9), skip_special_tokens=True)


def test_the_end_token_ends_it_and_is_counted(
    engine: ACREEngine, local: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = local.tokenizer.encode("Go on", add_special_tokens=False)
    made = generated(local, ids, 9)
    end = made.index(made[4])
    monkeypatch.setattr(local.model.generation_config, "eos_token_id", [made[4]])

    ours = engine.complete("Go on", 9)

    text = "".join(ours)
    assert text == local.tokenizer.decode(generated(local, ids, 9), skip_special_tokens=True)
    assert ours.new_tokens == end + 1


def test_without_a_chat_template_messages_become_lines(
    make_engine: MakeEngine, local: LocalModel
) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    plain = make_engine(model=LocalModel(model=local.model, tokenizer=tokenizer, name="plain"))
    lines = "system: Be kind.\nuser: Go on\nassistant: No.\nuser: Please!\nassistant:"

    ours, theirs = plain.complete(MESSAGES, 9), plain.complete(lines, 9)

    assert "".join(ours) == "".join(theirs)
    assert ours.prompt_tokens == theirs.prompt_tokens


def test_closing_it_stops_the_model(engine: ACREEngine) -> None:
    with engine.complete("Go on", 500) as completion:
        next(iter(completion))

    assert completion.new_tokens < 500
    assert list(completion) == []


def test_prompt_and_completion_fill_the_context_to_the_token(engine: ACREEngine) -> None:
    tokens = engine.complete("Go on", 1).prompt_tokens

    engine.complete("Go on", CONTEXT - tokens).close()
    with pytest.raises(BudgetError, match="shorten the prompt") as error:
        engine.complete("Go on", CONTEXT - tokens + 1)

    assert (error.value.needed, error.value.available) == (CONTEXT + 1, CONTEXT)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("", "the prompt is empty"),
        ([], "the list of messages is empty"),
        ([("critic", "Hm.")], "a message is from 'critic'; expected one of system"),
    ],
)
def test_what_is_no_prompt_is_refused(engine: ACREEngine, prompt: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        engine.complete(prompt)  # type: ignore[arg-type]


def test_a_completion_of_no_tokens_is_refused(engine: ACREEngine) -> None:
    with pytest.raises(ConfigError, match="max_new_tokens is 0; expected 1 or more"):
        engine.complete("Go on", 0)


def test_messages_that_the_chat_template_refuses_are_reported(
    make_engine: MakeEngine, local: LocalModel
) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        + tokenizer.chat_template
    )
    strict = make_engine(model=LocalModel(model=local.model, tokenizer=tokenizer, name="strict"))

    with pytest.raises(ConfigError, match=r"refuses these messages \(no system role\)"):
        strict.complete(MESSAGES)


def test_a_document_comes_back_as_it_was_given(engine: ACREEngine) -> None:
    document = Document(id="ferry", text="At nine. 🚢", metadata={"tags": ["a", {"b": None}]})
    engine.ingest(document)

    assert engine.document("ferry") == document
    with pytest.raises(DocumentNotFoundError, match="'gone' is not stored"):
        engine.document("gone")


def test_an_engine_tells_its_model_and_how_much_it_reads_at_once(engine: ACREEngine) -> None:
    assert engine.model_name == "llama"
    assert engine.context_tokens == CONTEXT


def test_an_answer_counts_its_prompt_and_its_tokens(engine: ACREEngine) -> None:
    engine.ingest(Document(id="ferry", text="The ferry leaves at nine."))

    stream = engine.stream("When?", max_new_tokens=5)
    before = stream.new_tokens
    list(stream)

    frame = engine.reader.frame
    assert stream.prompt_tokens == len(frame.prefix_ids) + len(frame.question_rows("When?").ids)
    assert (before, stream.new_tokens) == (0, 5)


def test_what_changes_answers_changes_the_fingerprint(
    make_engine: MakeEngine, local: LocalModel
) -> None:
    adapter = tiny_adapter(local.model.config)
    other = replace(adapter, selection=adapter.selection.flip(0))
    engines = [
        make_engine(),
        make_engine(adapter="none"),
        make_engine(adapter=other),
        make_engine(config=tiny_settings(selection="published")),
    ]

    assert make_engine().fingerprint == engines[0].fingerprint
    assert len({engine.fingerprint for engine in engines}) == len(engines)
