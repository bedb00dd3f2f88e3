"""From what there is to do, and what it costs here, to a plan."""

from collections.abc import Sequence
from dataclasses import dataclass

from acre_rag.config import Plan
from acre_rag.cost.speeds import ModelSpeeds, StoreSpeeds
from acre_rag.explanation import PlanCost

PREFERENCE = 1.05
"""So much slower than the cheapest may a plain prefill be predicted, and still be taken: it is
the model's own answer, and a prediction is no better than that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What there is to do for one question.

    Attributes:
        document_tokens: Raw tokens of the documents.
        prefix_tokens: Tokens before them.
        question_tokens: Tokens after them.
        landmarks: Landmarks that the question goes over.
        kept_landmarks: Those of them that stay in the refilled cache.
        refill_tokens: Raw tokens to refill.
        l1_values: Values of L1 to read from the store; 0 where L1 is in memory.
        l1_bytes: Their bytes.
        l2_values: Values of L2 that the chosen intervals are expected to lie in.
        l2_bytes: Their bytes.
        exact_pairs: Pairs of raw tokens in documents whose windows see all tokens before them.
        free_tokens: Context left beside prefix, question and answer.
    """

    document_tokens: int
    prefix_tokens: int
    question_tokens: int
    landmarks: int
    kept_landmarks: int
    refill_tokens: int
    l1_values: int
    l1_bytes: int
    l2_values: int
    l2_bytes: int
    exact_pairs: int
    free_tokens: int


def plan_costs(work: Workload, model: ModelSpeeds, store: StoreSpeeds) -> tuple[PlanCost, ...]:
    """Predict what each plan would cost."""
    rows = work.question_tokens
    cache = work.prefix_tokens + work.kept_landmarks + work.refill_tokens
    asking = {"select": model.select.seconds(rows, work.landmarks + work.prefix_tokens)}
    answering = {"answer": model.answer.seconds(rows, cache)}
    load = store.seconds(work.l1_values, work.l1_bytes) + model.restore_l1 * work.l1_bytes
    fetch = store.seconds(work.l2_values, work.l2_bytes) + model.restore_l2 * work.l2_bytes
    # Windows that see every token before them pay for pairs, as a prefill does.
    encode = model.encode.seconds(work.document_tokens)
    encode += model.prefill.per_pair * work.exact_pairs
    text = work.prefix_tokens + work.document_tokens
    return (
        _cost("refill", {"load": load} | asking | {"fetch": fetch} | answering, work, model, cache),
        _cost("recompute", {"encode": encode} | asking | answering, work, model, cache),
        _cost("prefill", {"prefill": model.prefill.seconds(text + rows)}, work, model, text),
    )


def cheapest(costs: Sequence[PlanCost]) -> Plan:
    """Choose the plan with the earliest first token; a plain prefill where it is hardly later.

    Raises:
        ValueError: No plan can be done.
    """
    possible = [cost for cost in costs if not cost.obstacle]
    if not possible:
        raise ValueError("no plan can be done; expected one or more without an obstacle")
    least = min(cost.seconds for cost in possible)
    preferred = [c for c in possible if c.plan == "prefill" and c.seconds <= least * PREFERENCE]
    return (preferred or [min(possible, key=lambda cost: cost.seconds)])[0].plan


def _cost(
    plan: Plan, steps: dict[str, float], work: Workload, model: ModelSpeeds, cache: int
) -> PlanCost:
    return PlanCost(
        plan=plan,
        seconds=sum(steps.values()),
        steps=steps,
        token_seconds=model.step.seconds(cache + work.question_tokens),
        bytes_read=work.l1_bytes + work.l2_bytes if plan == "refill" else 0,
        encoded_tokens=0 if plan == "refill" else work.document_tokens,
        obstacle=_obstacle(work) if plan == "prefill" else "",
    )


def _obstacle(work: Workload) -> str:
    if work.document_tokens <= work.free_tokens:
        return ""
    return (
        f"{work.document_tokens:,} tokens do not fit the {work.free_tokens:,} of the context that "
        "prefix, question and answer leave"
    )
