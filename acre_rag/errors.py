"""Every error that acre_rag raises on purpose, in one tree.

    ACREError
    ├── ConfigError            a setting, or a combination of settings, makes no sense
    ├── DocumentError          a document cannot be read: empty, binary, wrongly encoded, twice
    ├── DocumentNotFoundError  the store has no such document for this model
    ├── BudgetError            prefix, landmarks, refill, question and answer do not fit the context
    ├── ModelError             a model or tokenizer cannot be loaded
    │   └── UnsupportedModelError   it loads, but refilling would not be exact
    ├── AdapterError           a landmark adapter is missing, broken, or made for another model
    └── StoreError             a store cannot be opened, reached, read or written
        ├── StoreOptionError   its URL, path or an option makes no sense (and a ConfigError)
        ├── DamagedCacheError  a stored value is missing, corrupt, or belongs to something else
        └── DocumentReplacedError   a document was replaced or deleted while it was asked

Each message says what was found, what was expected, and what to do.
"""


class ACREError(Exception):
    """Anything that acre_rag reports on purpose."""


class ConfigError(ACREError, ValueError):
    """A setting, or a combination of settings, makes no sense."""


class DocumentError(ACREError, ValueError):
    """A document cannot be read as text."""


class DocumentNotFoundError(ACREError, LookupError):
    """The store has no such document for this model and these settings."""


class BudgetError(ACREError, ValueError):
    """Prefix, landmarks, refill, question and answer do not fit the model's context.

    Attributes:
        needed: Tokens asked for.
        available: Tokens that are free.
    """

    def __init__(self, message: str, *, needed: int, available: int) -> None:
        super().__init__(message)
        self.needed = needed
        self.available = available


class ModelError(ACREError):
    """A model or its tokenizer cannot be loaded."""


class UnsupportedModelError(ModelError):
    """A model whose caches could not be refilled exactly."""


class AdapterError(ACREError):
    """A landmark adapter is missing, broken, or made for another model."""


class StoreError(ACREError):
    """A store cannot be opened, reached, read or written."""


class StoreOptionError(StoreError, ConfigError):
    """The path or URL of a store, or an option of it, makes no sense: nothing was reached."""


class DamagedCacheError(StoreError):
    """A stored value is missing, corrupt, or belongs to something else.

    Attributes:
        fact: The message without its remedy: which value, what was found, what was expected.
        reason: One word for the kind of damage: `missing`, `truncated`, `checksum`, `header`,
            `foreign` (of another document, version or place), `format`, `shape`, or `encrypted`
            with a key that was not given.
        value: Name of the value in its document: `manifest`, `l1:3`, `l2:17`.
    """

    def __init__(self, fact: str, remedy: str, *, reason: str, value: str) -> None:
        super().__init__(f"{fact}; {remedy}")
        self.fact = fact
        self.reason = reason
        self.value = value


class DocumentReplacedError(StoreError):
    """A document was replaced or deleted while it was asked; asking again meets what is there."""
