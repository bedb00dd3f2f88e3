"""What a question would cost, plan by plan, and which plan is cheapest."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from acre_rag.config import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCost:
    """What one way to answer would cost.

    Attributes:
        plan: `refill` loads L1 and the chosen L2; `recompute` encodes the documents again, then
            refills; `prefill` runs the whole text before the question through the model.
        seconds: From the question to the first token of the answer, the sum of `steps`.
        steps: Seconds of each step, by name.
        token_seconds: Each further token of the answer.
        bytes_read: Bytes read from the store, manifests left out.
        encoded_tokens: Document tokens run through the model.
        obstacle: Why it cannot be done; empty where it can.
    """

    plan: Plan
    seconds: float
    steps: Mapping[str, float]
    token_seconds: float
    bytes_read: int
    encoded_tokens: int
    obstacle: str = ""

    @property
    def longest_step(self) -> str:
        """Name of the step that takes most of the time."""
        return max(self.steps, key=lambda name: self.steps[name])


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A prediction of what answering would cost here, from constants measured on this machine.

    Attributes:
        documents: Ids of the documents asked.
        document_tokens: Their tokens.
        question_tokens: Tokens that follow them: question, instructions, end of the prompt.
        refill_tokens: Most raw tokens that would be refilled.
        model: Name of the model.
        machine: Device, number type and threads that it computes with.
        store: Where the caches are.
        plans: What each plan would cost.
        cheapest: The plan that `policy="auto"` takes.
    """

    documents: tuple[str, ...]
    document_tokens: int
    question_tokens: int
    refill_tokens: int
    model: str
    machine: str
    store: str
    plans: tuple[PlanCost, ...]
    cheapest: Plan

    @property
    def reason(self) -> str:
        """Why the cheapest plan is the cheapest, in a sentence."""
        best = self[self.cheapest]
        told = f"{best.seconds:.3g} s to the first token, most of it to {best.longest_step}"
        others = [cost for cost in self.plans if cost is not best and not cost.obstacle]
        if not others:
            return f"{told}; nothing else can be done"
        other = min(others, key=lambda cost: cost.seconds)
        return (
            f"{told}; {other.plan} would take {other.seconds:.3g} s, "
            f"most of it to {other.longest_step}"
        )

    def __getitem__(self, plan: Plan) -> PlanCost:
        """Give what one plan would cost."""
        return next(cost for cost in self.plans if cost.plan == plan)

    def __str__(self) -> str:
        count = len(self.documents)
        named = repr(self.documents[0]) if count == 1 else f"{count:,} documents"
        lines = [
            f"{named}, {self.document_tokens:,} tokens; {self.refill_tokens:,} to refill",
            f"{self.model} on {self.machine}; store {self.store}",
            "",
            f"{'plan':<10}{'first token':>12}{'each more':>12}{'read':>12}{'encoded':>12}  steps",
            *map(_line, self.plans),
            "",
            f"cheapest: {self.cheapest}: {self.reason}",
        ]
        return "\n".join(lines)

    def to_dict(self) -> Mapping[str, object]:
        """Turn into plain values, as `acre explain --json` prints them."""
        return asdict(self) | {"reason": self.reason}


def _line(cost: PlanCost) -> str:
    if cost.obstacle:
        return f"{cost.plan:<10}{'-':>12}  {cost.obstacle}"
    steps = ", ".join(f"{name} {seconds:.3g}" for name, seconds in cost.steps.items())
    return (
        f"{cost.plan:<10}{f'{cost.seconds:.3g} s':>12}{f'{cost.token_seconds * 1000:.3g} ms':>12}"
        f"{f'{cost.bytes_read / 1e6:.3g} MB':>12}{f'{cost.encoded_tokens:,}':>12}  {steps}"
    )
