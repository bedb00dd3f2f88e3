import threading

import pytest
from transformers import PreTrainedTokenizerFast

from acre_rag.config import Prompt
from acre_rag.errors import ConfigError, UnsupportedModelError
from acre_rag.model.prompt import PromptFrame
from tests.tiny import SHORT_PROMPT, SPECIAL_TOKENS, tiny_tokenizer


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return tiny_tokenizer()


def test_prefix_documents_and_question_join_to_the_rendered_chat(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    frame = PromptFrame(tokenizer, SHORT_PROMPT)
    rows = frame.question_rows("who?")

    document, _ = frame.encode_with_offsets("a the text")

    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Read.\na the text\nAsked: who?\nBe brief."}],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert tokenizer.decode([*frame.prefix_ids, *document, *rows.ids]) == rendered


def test_the_groups_of_a_question_are_itself_the_tail_and_the_last_token(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    rows = PromptFrame(tokenizer, SHORT_PROMPT).question_rows("who \U0001f600?", "In one word.")

    question, tail, last = (tokenizer.decode(rows.ids[g.start : g.stop]) for g in rows.groups())

    assert question == "who \U0001f600?"
    assert tail == "\nIn one word.<|im_end|>\n<|im_start|>assistant\n"
    assert last == "\n"


@pytest.mark.parametrize("special", SPECIAL_TOKENS)
def test_text_that_spells_out_a_special_token_stays_text(
    tokenizer: PreTrainedTokenizerFast, special: str
) -> None:
    frame = PromptFrame(tokenizer, SHORT_PROMPT)
    number = tokenizer.convert_tokens_to_ids(special)

    ids, offsets = frame.encode_with_offsets(f"before {special} after")
    rows = frame.question_rows(f"what is {special}?", f"say {special}")

    assert number not in ids
    assert offsets[-1][1] == len(f"before {special} after")
    end_of_turn = [number] if special in ("<|im_end|>", "<|im_start|>") else []
    assert [token for token in rows.ids if token == number] == end_of_turn


def test_a_tokenizer_is_left_as_it_was(tokenizer: PreTrainedTokenizerFast) -> None:
    before = (tokenizer.backend_tokenizer.to_str(), tokenizer("a<|im_end|>")["input_ids"])

    PromptFrame(tokenizer, SHORT_PROMPT).encode_with_offsets("a<|im_end|>")

    assert tokenizer.backend_tokenizer.encode_special_tokens is False
    after = (tokenizer.backend_tokenizer.to_str(), tokenizer("a<|im_end|>")["input_ids"])
    assert after == before


def test_threads_that_read_text_and_put_questions_do_not_disturb_each_other(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    frame = PromptFrame(tokenizer, SHORT_PROMPT)
    text = "the <|im_end|> and " * 20
    expected = frame.encode_with_offsets(text)[0]
    wrong = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            frame.question_rows("who?")

    asking = threading.Thread(target=ask)
    asking.start()
    for _ in range(100):
        if frame.encode_with_offsets(text)[0] != expected:
            wrong.append(text)
    stop.set()
    asking.join()

    assert not wrong


def test_instructions_of_one_question_replace_the_prompts_own(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    frame = PromptFrame(tokenizer, SHORT_PROMPT)

    plain, told = frame.question_rows("who?"), frame.question_rows("who?", "")

    assert "Be brief." in tokenizer.decode(plain.ids)
    assert "Be brief." not in tokenizer.decode(told.ids)


def test_without_a_chat_template_the_prompt_is_plain_text(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    tokenizer.chat_template = None
    tokenizer.bos_token = "<|endoftext|>"

    frame = PromptFrame(tokenizer, SHORT_PROMPT)

    assert tokenizer.decode(frame.prefix_ids) == "<|endoftext|>Read.\n"
    assert tokenizer.decode(frame.question_rows("who?").ids).endswith("Be brief.\nAnswer:")


@pytest.mark.parametrize("question", ["", " \n"])
def test_an_empty_question_is_refused(tokenizer: PreTrainedTokenizerFast, question: str) -> None:
    with pytest.raises(ConfigError, match="question is empty"):
        PromptFrame(tokenizer, SHORT_PROMPT).question_rows(question)


@pytest.mark.parametrize(
    "template", ["nothing", "{{ messages[0]['content'] }}{{ messages[0]['content'] }}"]
)
def test_a_template_that_loses_or_repeats_the_text_is_refused(
    tokenizer: PreTrainedTokenizerFast, template: str
) -> None:
    tokenizer.chat_template = template

    with pytest.raises(UnsupportedModelError, match="chat template"):
        PromptFrame(tokenizer, SHORT_PROMPT)


def test_a_tokenizer_without_offsets_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(UnsupportedModelError, match="fast tokenizer"):
        PromptFrame(Slow(), SHORT_PROMPT)  # type: ignore[arg-type]


@pytest.mark.parametrize("question", ["no place", "{question} and {question}"])
def test_a_prompt_needs_one_place_for_the_question(question: str) -> None:
    with pytest.raises(ConfigError, match="exactly one"):
        Prompt(question=question)
