"""Pictures of numbers, where the library that draws them is installed."""

from typing import TYPE_CHECKING

from acre_rag.errors import ConfigError

if TYPE_CHECKING:  # an extra brings it
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> "Figure":
    """Make an empty figure, so many inches wide and high.

    Raises:
        ConfigError: The library for it is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            "a picture needs matplotlib; expected the evaluate extra: run "
            "pip install 'acre-rag[evaluate]', or leave the picture out"
        ) from error
    return Figure(figsize=(width, height), layout="constrained")
