"""Constants that no machine has, easy to reckon with."""

from dataclasses import replace

from acre_rag.cost import Curve, ModelSpeeds, Pass, StoreSpeeds, Workload

MODEL = ModelSpeeds(
    prefill=Curve(fixed=1.0, per_token=0.01, per_pair=0.0001),
    encode=Curve(fixed=2.0, per_token=0.02),
    select=Pass(fixed=0.5, per_row=0.01, per_remembered=0.001),
    answer=Pass(fixed=0.25, per_row=0.02, per_remembered=0.002),
    step=Curve(fixed=0.125, per_token=0.0005),
    restore_l1=0.0002,
    restore_l2=0.0003,
)
STORE = StoreSpeeds(per_value=0.1, per_byte=0.001, sampled_bytes=1e12)
WORK = Workload(
    document_tokens=100,
    prefix_tokens=10,
    question_tokens=20,
    landmarks=7,
    kept_landmarks=5,
    refill_tokens=40,
    l1_values=2,
    l1_bytes=300,
    l2_values=3,
    l2_bytes=700,
    exact_pairs=0,
    free_tokens=500,
)


def work(**changes: int) -> Workload:
    """Change something of the workload."""
    return replace(WORK, **changes)
