"""The paper: scoring, budget, selection and splice, as pure functions."""

from acre_rag.refill.choice import Selection, choose
from acre_rag.refill.mass import mass_before
from acre_rag.refill.scoring import mixture_scores, published_scores, weighted_layers
from acre_rag.refill.splice import splice

__all__ = [
    "Selection",
    "choose",
    "mass_before",
    "mixture_scores",
    "published_scores",
    "splice",
    "weighted_layers",
]
