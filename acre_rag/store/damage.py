"""Damage that is given rather than raised, where what follows may still be sound."""

from collections.abc import Callable
from typing import TypeVar

from acre_rag.errors import DamagedCacheError

Read = TypeVar("Read")


def or_damage(read: Callable[[], Read]) -> Read | DamagedCacheError:
    """Give what is read, or the error that says why it cannot be trusted."""
    try:
        return read()
    except DamagedCacheError as error:
        return error
