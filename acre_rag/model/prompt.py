"""The prompt around the documents: what stands before them, and what follows."""

import copy
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from acre_rag.config import Prompt
from acre_rag.errors import ConfigError, UnsupportedModelError
from acre_rag.request import check_question

# Any text that no template changes will do; it marks where the documents go.
_DOCUMENTS = "ACRE-DOCUMENTS-HERE"
_DAY = "26 July 2024"
_ONE_DAY = f"{{%- macro strftime_now(format) -%}}{_DAY}{{%- endmacro -%}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionRows:
    """Token ids that follow the documents, with the groups that landmarks are scored by.

    Attributes:
        ids: Everything after the documents, up to the assistant's header.
        question: Places of the question's own tokens in `ids`.
        tail: Places of the tokens after the question.
    """

    ids: list[int]
    question: range
    tail: range

    def groups(self, landmarks: int = 0) -> tuple[range, ...]:
        """Give the rows of question, tail and the prompt's last token, then of its landmarks.

        Args:
            landmarks: Landmarks before the last token, which is then no part of the tail; where
                there are none, they are no group.
        """
        last = len(self.ids) - 1
        if not landmarks:
            return self.question, self.tail, range(last, last + 1)
        moved = last + landmarks
        own = range(last, moved)
        return self.question, range(self.tail.start, last), range(moved, moved + 1), own


class PromptFrame:
    """Token ids around the documents, for one tokenizer and prompt.

    Args:
        tokenizer: A fast tokenizer; its chat template is used where it has one.
        prompt: The words around documents and question.

    Raises:
        UnsupportedModelError: The tokenizer gives no character offsets, or its chat template
            loses the user's text.
        ConfigError: Nothing stands before the documents.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> None:
        if not tokenizer.is_fast:
            raise UnsupportedModelError(
                f"{type(tokenizer).__name__} gives no character offsets; expected a fast "
                "tokenizer: add a tokenizer.json to the model"
            )
        self._tokenizer = tokenizer
        # A tokenizer keeps how it treats special tokens from one call to the next; one that
        # reads text only is safe from other threads, and leaves the caller's as it was.
        self._literal = copy.deepcopy(tokenizer)
        self._encode_text("set it up")
        self._prompt = prompt
        before, self._after = self._render(prompt.introduction)
        self.prefix_ids: list[int] = self._encode_template(before)
        if not self.prefix_ids:
            raise ConfigError(
                "nothing stands before the documents; expected a token or more, which every "
                "window attends to: give the prompt an introduction"
            )

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Encode text as text, with the characters of each token."""
        encoding = self._literal(
            text,
            add_special_tokens=False,
            return_offsets_mapping=True,
            # A document that spells out "<|im_end|>" must not end the user's turn.
            split_special_tokens=True,
            verbose=False,
        )
        return list(encoding["input_ids"]), list(encoding["offset_mapping"])

    def question_rows(self, question: str, instructions: str | None = None) -> QuestionRows:
        """Encode what follows the documents for one question.

        The parts are encoded one by one, so that their places are known exactly.

        Raises:
            ConfigError: The question is empty.
        """
        check_question(question)
        before, after = self._prompt.question.split("{question}")
        told = self._prompt.instructions if instructions is None else instructions
        lead = self._encode_text(before)
        asked = self._encode_text(question)
        tail = self._encode_text(after + told) + self._encode_template(self._after)
        ids = lead + asked + tail
        return QuestionRows(
            ids=ids,
            question=range(len(lead), len(lead) + len(asked)),
            tail=range(len(lead) + len(asked), len(ids)),
        )

    def _render(self, introduction: str) -> tuple[str, str]:
        if not self._tokenizer.chat_template:
            return (self._tokenizer.bos_token or "") + introduction, "\nAnswer:"
        rendered = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": introduction + _DOCUMENTS}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,  # ignored by templates that do not know it
            # Templates that print today's date would give every day caches of its own.
            chat_template=_on_one_day(self._tokenizer.get_chat_template()),
            date_string=_DAY,
        )
        before, mark, after = str(rendered).partition(_DOCUMENTS)
        if not mark or _DOCUMENTS in after:
            raise UnsupportedModelError(
                "the chat template drops or repeats the user's text; expected it to appear once: "
                "give the tokenizer another chat template"
            )
        return before, after

    def _encode_text(self, text: str) -> list[int]:
        return self.encode_with_offsets(text)[0] if text else []

    def _encode_template(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _on_one_day(template: str) -> str:
    """Let a chat template that asks for the date be told always the same."""
    return _ONE_DAY + template if "strftime_now" in template else template
