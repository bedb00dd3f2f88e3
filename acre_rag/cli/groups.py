"""Options that go together: each group is written once, and taken by a command as one value."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from typing import Any, get_type_hints

from acre_rag.cli import options
from acre_rag.cli.failures import MisuseError
from acre_rag.model.location import DEMO_MODEL, NO_ADAPTER, check_name
from acre_rag.request import DEFAULT_NEW_TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionOptions:
    """What a question asks, and how it is to be answered."""

    document: options.Documents = None
    refill_tokens: options.RefillTokens = None
    max_new_tokens: options.MaxNewTokens = DEFAULT_NEW_TOKENS
    instructions: options.Instructions = None
    selection: options.Selection = options.SelectionRule.learned
    policy: options.Policy = options.PlanPolicy.refill


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """Where caches are kept, and the key they are kept with."""

    store: options.Store = None
    key_file: options.KeyFile = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """What reads: the model, its landmarks, and what shapes the caches that it makes.

    Raises:
        ModelError: The name can be no model's.
        MisuseError: The adapter's name is empty.
    """

    model: options.Model = None
    adapter: options.Adapter = None
    device: options.Device = None
    dtype: options.Dtype = None
    stored: options.Stored = None
    window_tokens: options.WindowTokens = None

    def __post_init__(self) -> None:
        if self.model is not None and self.model != DEMO_MODEL:
            check_name(self.model)  # here, before anything is opened or imported
        if self.adapter == "":
            raise MisuseError(
                f"--adapter is empty; expected a directory, or {NO_ADAPTER!r}: name one"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions:
    """What is shown; `debug` has done its work when the command begins."""

    json: options.JSON = False
    debug: options.Debug = False


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each field of the groups among its parameters.

    Typer makes options of a function's signature: the one returned has fields in place of groups,
    and puts them together again when it is called.
    """
    own = inspect.signature(command)
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters = []
    for name, parameter in own.parameters.items():
        parameters += _fields(groups[name]) if name in groups else [parameter]

    @wraps(command)
    def run(**given: Any) -> None:  # noqa: ANN401  # whatever the command takes
        for name, kind in groups.items():
            values = {entry.name: given.pop(entry.name) for entry in fields(kind)}
            given[name] = kind(**values)
        command(**given)

    run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {entry.name: entry.annotation for entry in parameters}
    return run


def _fields(group: Any) -> list[inspect.Parameter]:  # noqa: ANN401  # a dataclass, not a value of it
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            entry.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=entry.default,
            annotation=hints[entry.name],
        )
        for entry in fields(group)
    ]
