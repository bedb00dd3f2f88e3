"""The recipe of the adapter that ships: what a step of stage 2 looks like, and how often."""

from acre_rag.train.batches import StepShape

BUDGETS = {64: 0.08, 128: 0.2, 256: 0.42, 512: 0.2, 1024: 0.1}
"""Refilled tokens, with how often each is drawn."""

REFUSALS = ("The context does not say.",)
"""What is answered where the context holds no answer."""

SHAPES = (
    StepShape(contexts=12, documents=1, tokens=4096, questions=16, weight=0.40),
    StepShape(contexts=32, documents=1, tokens=1008, questions=6, weight=0.08),
    StepShape(contexts=20, documents=1, tokens=2048, questions=10, weight=0.08),
    StepShape(contexts=6, documents=1, tokens=8192, questions=28, weight=0.12),
    StepShape(contexts=3, documents=1, tokens=16384, questions=40, weight=0.06),
    StepShape(contexts=6, documents=2, tokens=4000, questions=28, weight=0.06),
    StepShape(contexts=4, documents=6, tokens=2048, questions=32, weight=0.05),
    StepShape(contexts=2, documents=3, tokens=8192, questions=40, weight=0.03),
    StepShape(contexts=16, documents=1, tokens=2048, questions=10, weight=0.08, pack="fairytale"),
    StepShape(contexts=6, documents=1, tokens=8192, questions=5, weight=0.04, pack="qmsum"),
)
"""About 48 thousand tokens of documents and 200 questions a step."""

TEXT_WINDOWS = {4: 0.75, 7: 0.25}
"""Windows of running text, with how often each is drawn."""

CALIBRATION = (
    StepShape(contexts=8, documents=1, tokens=4096, questions=24, weight=1.0),
    StepShape(contexts=12, documents=1, tokens=2048, questions=12, weight=1.0),
    StepShape(contexts=16, documents=1, tokens=1008, questions=10, weight=1.0),
    StepShape(contexts=8, documents=2, tokens=2048, questions=24, weight=1.0),
    StepShape(contexts=2, documents=1, tokens=16384, questions=96, weight=1.0),
)
"""What selection weights are fitted on."""
