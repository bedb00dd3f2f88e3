"""What a model says by itself: a prompt in, text out, no document being asked."""

from collections.abc import Iterator, Sequence

from acre_rag.errors import BudgetError
from acre_rag.model.decode import decode
from acre_rag.model.messages import prompt_ids
from acre_rag.model.reader import DocumentReader
from acre_rag.request import check_new_tokens


class Completion:
    """Iterates over what the model says; closing it, or dropping it, stops the model.

    `"".join(completion)` is the whole text.

    Args:
        reader: Holds the model.
        prompt: A string as it stands, or messages: pairs of a role and a text.
        max_new_tokens: Longest completion.

    Attributes:
        prompt_tokens: Tokens of the prompt.
        new_tokens: Tokens made so far, the one that ends the text among them.

    Raises:
        ConfigError: The prompt is empty, or holds what the chat template refuses.
        BudgetError: Prompt and completion do not fit the context.
    """

    def __init__(
        self,
        reader: DocumentReader,
        prompt: str | Sequence[tuple[str, str]],
        max_new_tokens: int,
    ) -> None:
        check_new_tokens(max_new_tokens)
        ids = prompt_ids(reader.local.tokenizer, prompt)
        needed, available = len(ids) + max_new_tokens, reader.context_tokens
        if needed > available:
            raise BudgetError(
                f"prompt and completion need {needed} tokens of a context of {available}; expected "
                "both to fit: shorten the prompt, or lower max_new_tokens",
                needed=needed,
                available=available,
            )
        self.prompt_tokens = len(ids)
        self.new_tokens = 0
        self._pieces = decode(reader.local, None, ids, max_new_tokens, self._note_token)

    def close(self) -> None:
        """Stop the model."""
        self._pieces.close()

    def __iter__(self) -> Iterator[str]:
        return self._pieces

    def __enter__(self) -> "Completion":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _note_token(self) -> None:
        self.new_tokens += 1
