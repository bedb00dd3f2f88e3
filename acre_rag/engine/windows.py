"""The landmarks of one window, among those that a document has by segment."""

from acre_rag.cache import KVBlock, StoredBlock
from acre_rag.engine.known import Landmarks
from acre_rag.text.layout import Layout


def window_of(landmarks: Landmarks, layout: Layout, window: int) -> KVBlock:
    """View the landmarks of one window."""
    own, segment = layout.window_intervals(window), layout.segment_of_window(window)
    start = layout.segment_intervals(segment).start
    return landmarks[segment].slice(own.start - start, own.stop - start)


def put_window(landmarks: Landmarks, layout: Layout, window: int, block: StoredBlock) -> KVBlock:
    """Copy the landmarks of one window to their place, and view them there."""
    place = window_of(landmarks, layout, window)
    plain = block.to(dtype=place.keys.dtype, device="cpu")
    place.keys.copy_(plain.keys)
    place.values.copy_(plain.values)
    return place
