"""What is given with one call of an adapter beside its input."""

from collections.abc import Iterable

from acre_rag import ACREError


def refuse_settings(names: Iterable[str], remedy: str) -> None:
    """Refuse settings that a call has no use for: left out in silence they would seem to hold.

    Args:
        names: Those that are left over.
        remedy: What to do instead.

    Raises:
        ACREError: There is one.
    """
    found = ", ".join(sorted(names))
    if found:
        raise ACREError(f"found {found} given with a call or bound; expected none here: {remedy}")
