"""What is said to a model by itself, no documents being asked, as token ids."""

from collections.abc import Sequence

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from acre_rag.errors import ConfigError

ROLES = ("system", "user", "assistant")


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase, prompt: str | Sequence[tuple[str, str]]
) -> list[int]:
    """Encode a string as it stands, or messages as the chat template has them.

    Without a chat template every message becomes a line, and the assistant's is begun.

    Args:
        tokenizer: The model's own.
        prompt: A string, or messages: pairs of a role (`system`, `user`, `assistant`) and a text.

    Raises:
        ConfigError: Nothing is said, a role is unknown, or the chat template refuses the messages.
    """
    text = prompt if isinstance(prompt, str) else _render(tokenizer, prompt)
    if not text:
        raise ConfigError("the prompt is empty; expected some words: say something")
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[tuple[str, str]]) -> str:
    if not messages:
        raise ConfigError("the list of messages is empty; expected one or more: say something")
    for role, _ in messages:
        if role not in ROLES:
            raise ConfigError(
                f"a message is from {role!r}; expected one of {', '.join(ROLES)}: name one of them"
            )
    if not tokenizer.chat_template:
        said = "".join(f"{role}: {text}\n" for role, text in messages)
        return f"{tokenizer.bos_token or ''}{said}assistant:"
    try:
        rendered = tokenizer.apply_chat_template(
            [{"role": role, "content": text} for role, text in messages],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,  # ignored by templates that do not know it
        )
    except TemplateError as error:
        raise ConfigError(
            f"the model's chat template refuses these messages ({error}); expected an order and "
            "roles that it knows: change them, or pass a prompt of your own as a string"
        ) from error
    return str(rendered)
