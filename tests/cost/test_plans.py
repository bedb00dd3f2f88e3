import random
from dataclasses import replace

import pytest

from acre_rag.cost import Curve, ModelSpeeds, Pass, StoreSpeeds, Workload, cheapest, plan_costs
from acre_rag.explanation import PlanCost
from tests.cost.samples import MODEL, STORE, WORK, work


def _reckoned(w: Workload, m: ModelSpeeds, s: StoreSpeeds) -> dict[str, float]:
    """Seconds to the first token, written out; a plan that cannot be is left out."""
    rows, behind = w.question_tokens, w.prefix_tokens + w.landmarks
    select = m.select.fixed + m.select.per_row * rows + m.select.per_remembered * behind
    cache = w.prefix_tokens + w.kept_landmarks + w.refill_tokens
    answer = m.answer.fixed + m.answer.per_row * rows + m.answer.per_remembered * cache
    read = s.per_value * (w.l1_values + w.l2_values) + s.per_byte * (w.l1_bytes + w.l2_bytes)
    restore = m.restore_l1 * w.l1_bytes + m.restore_l2 * w.l2_bytes
    encode = m.encode.fixed + m.encode.per_token * w.document_tokens
    encode += m.prefill.per_pair * w.exact_pairs
    whole = w.prefix_tokens + w.document_tokens + rows
    found = {"refill": read + restore + select + answer, "recompute": encode + select + answer}
    if w.document_tokens <= w.free_tokens:
        found["prefill"] = (
            m.prefill.fixed + m.prefill.per_token * whole + m.prefill.per_pair * whole * whole
        )
    return found


def _random(seed: int) -> tuple[Workload, ModelSpeeds, StoreSpeeds]:
    draw = random.Random(seed)  # noqa: S311  # for a test

    def few() -> float:
        return 10 ** draw.uniform(-5, -1)

    tokens = draw.randrange(20, 4000)
    drawn = work(
        document_tokens=tokens,
        landmarks=tokens // 4,
        kept_landmarks=tokens // 8,
        refill_tokens=draw.randrange(tokens),
        l1_values=draw.randrange(5),
        l1_bytes=draw.randrange(5000),
        l2_bytes=draw.randrange(50000),
        exact_pairs=draw.choice([0, tokens**2]),
        free_tokens=draw.randrange(4000),
    )
    model = ModelSpeeds(
        prefill=Curve(fixed=few(), per_token=few(), per_pair=few() / 1000),
        encode=Curve(fixed=few(), per_token=few()),
        select=Pass(fixed=few(), per_row=few(), per_remembered=few() / 100),
        answer=Pass(fixed=few(), per_row=few(), per_remembered=few() / 100),
        step=Curve(fixed=few(), per_token=few()),
        restore_l1=few() / 1000,
        restore_l2=few() / 1000,
    )
    return drawn, model, StoreSpeeds(per_value=few(), per_byte=few() / 100, sampled_bytes=1e9)


def test_costs_and_choice_are_those_of_the_formula_written_out() -> None:
    taken = []
    for seed in range(300):
        costs = plan_costs(*_random(seed))
        reckoned = _reckoned(*_random(seed))

        possible = {cost.plan: cost.seconds for cost in costs if not cost.obstacle}
        assert possible == pytest.approx(reckoned)
        least = min(reckoned.values())
        near = reckoned.get("prefill", float("inf")) <= 1.05 * least
        plan = cheapest(costs)
        assert plan == ("prefill" if near else min(reckoned, key=lambda name: reckoned[name]))
        assert reckoned[plan] <= 1.05 * least
        taken.append(plan)
    assert set(taken) == {"refill", "recompute", "prefill"}


def test_bytes_and_tokens_are_counted_where_they_are_spent() -> None:
    refill, recompute, prefill = plan_costs(WORK, MODEL, STORE)

    assert [cost.plan for cost in (refill, recompute, prefill)] == [
        "refill",
        "recompute",
        "prefill",
    ]
    assert (refill.bytes_read, refill.encoded_tokens) == (1000, 0)
    assert (recompute.bytes_read, recompute.encoded_tokens) == (0, 100)
    assert (prefill.bytes_read, prefill.encoded_tokens) == (0, 100)
    assert refill.token_seconds == pytest.approx(0.125 + 0.0005 * (10 + 5 + 40 + 20))
    assert prefill.token_seconds == pytest.approx(0.125 + 0.0005 * (10 + 100 + 20))
    assert sum(refill.steps.values()) == pytest.approx(refill.seconds)


def test_a_text_that_does_not_fit_is_never_prefilled_however_cheap() -> None:
    free = replace(MODEL, prefill=Curve(fixed=0.0, per_token=0.0))

    assert cheapest(plan_costs(WORK, free, STORE)) == "prefill"
    costs = plan_costs(work(free_tokens=99), free, STORE)
    assert cheapest(costs) == "refill"
    assert "100 tokens do not fit the 99" in costs[2].obstacle


def test_a_slow_store_makes_encoding_again_the_cheapest() -> None:
    slow = replace(STORE, per_byte=1.0)

    assert cheapest(plan_costs(work(free_tokens=0), MODEL, slow)) == "recompute"


@pytest.mark.parametrize(("seconds", "taken"), [(1.04, "prefill"), (1.06, "refill")])
def test_a_plain_prefill_is_taken_where_it_is_hardly_later(seconds: float, taken: str) -> None:
    costs = [_cost("refill", 1.0), _cost("recompute", 2.0), _cost("prefill", seconds)]

    assert cheapest(costs) == taken


def test_no_plan_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="no plan"):
        cheapest([])


def _cost(plan: str, seconds: float) -> PlanCost:
    return PlanCost(
        plan=plan,  # type: ignore[arg-type]
        seconds=seconds,
        steps={"all": seconds},
        token_seconds=0.0,
        bytes_read=0,
        encoded_tokens=0,
    )
