"""What a question costs: fits, predictions, and the choice between plans. Pure arithmetic."""

from acre_rag.cost.fit import fitted
from acre_rag.cost.kept import KeptSpeeds
from acre_rag.cost.plans import Workload, cheapest, plan_costs
from acre_rag.cost.speeds import Curve, ModelSpeeds, Pass, StoreSpeeds

__all__ = [
    "Curve",
    "KeptSpeeds",
    "ModelSpeeds",
    "Pass",
    "StoreSpeeds",
    "Workload",
    "cheapest",
    "fitted",
    "plan_costs",
]
