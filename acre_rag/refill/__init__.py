"""The paper: scoring, budget, selection and splice, as pure functions."""

from acre_rag.refill.choice import Selection, choose
from acre_rag.refill.needed import least_wanted
from acre_rag.refill.scoring import mixture_scores, published_scores, weighted_layers
from acre_rag.refill.splice import MakeRoom, Splicing, splice

__all__ = [
    "MakeRoom",
    "Selection",
    "Splicing",
    "choose",
    "least_wanted",
    "mixture_scores",
    "published_scores",
    "splice",
    "weighted_layers",
]
