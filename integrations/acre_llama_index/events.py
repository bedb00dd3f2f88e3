"""Events of our own, for the framework's instruments: what was selected, fetched, refilled."""

from llama_index.core import instrumentation
from llama_index.core.instrumentation.events import BaseEvent

from acre_llama_index.asking import Asking

dispatcher = instrumentation.get_dispatcher(  # type: ignore[attr-defined]  # not re-exported
    "acre_llama_index"
)


class ACRESelectEvent(BaseEvent):
    """A question has chosen intervals.

    Attributes:
        landmarks: Landmarks kept for it.
        seconds: How long it took, landmarks' loading included.
    """

    landmarks: int
    seconds: float

    @classmethod
    def class_name(cls) -> str:
        """Name the event as the framework's own events are named."""
        return "ACRESelectEvent"


class ACREFetchEvent(BaseEvent):
    """The store has given what was chosen.

    Attributes:
        bytes_read: Payload read from the store, landmarks included.
        recomputed_tokens: Tokens that damaged or missing values forced to be read again.
        seconds: How long it took.
    """

    bytes_read: int
    recomputed_tokens: int
    seconds: float

    @classmethod
    def class_name(cls) -> str:
        """Name the event as the framework's own events are named."""
        return "ACREFetchEvent"


class ACRERefillEvent(BaseEvent):
    """A refilled cache is ready to answer.

    Attributes:
        refilled_tokens: Raw tokens put back into the cache.
        encoded_tokens: Tokens run through the model beforehand; 0 on a hit.
        hit: Whether all of it came from the store.
    """

    refilled_tokens: int
    encoded_tokens: int
    hit: bool

    @classmethod
    def class_name(cls) -> str:
        """Name the event as the framework's own events are named."""
        return "ACRERefillEvent"


def tell_refilled(asking: Asking) -> None:
    """Tell what a question chose, fetched and refilled, before it is answered."""
    usage, seconds = asking.usage(), asking.stream.seconds
    dispatcher.event(
        ACRESelectEvent(landmarks=usage["landmarks"], seconds=seconds.load + seconds.select)
    )
    dispatcher.event(
        ACREFetchEvent(
            bytes_read=usage["bytes_read"],
            recomputed_tokens=usage["recomputed_tokens"],
            seconds=seconds.fetch,
        )
    )
    dispatcher.event(
        ACRERefillEvent(
            refilled_tokens=usage["refilled_tokens"],
            encoded_tokens=usage["encoded_tokens"],
            hit=usage["encoded_tokens"] == 0,
        )
    )
