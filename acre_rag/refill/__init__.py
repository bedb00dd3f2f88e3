"""The paper: scoring, selection and splice, as pure functions on tensors."""

from acre_rag.refill.scoring import mixture_scores, published_scores
from acre_rag.refill.selection import select_intervals
from acre_rag.refill.splice import splice

__all__ = ["mixture_scores", "published_scores", "select_intervals", "splice"]
