"""The recipe of the adapter that ships: what a step of stage 2 looks like, and how often."""

from acre_rag.train.batches import StepShape

REFUSALS = ("The context does not say.",)
"""What is answered where the context holds no answer."""

_ROWS = (
    (12, 1, 4096, 16, 0.07, 128, "squad"),
    (12, 1, 4096, 16, 0.20, 256, "squad"),
    (12, 1, 4096, 16, 0.09, 512, "squad"),
    (32, 1, 1008, 6, 0.03, 128, "squad"),
    (32, 1, 1008, 6, 0.04, 256, "squad"),
    (20, 1, 2048, 10, 0.06, 256, "squad"),
    (6, 1, 8192, 28, 0.05, 256, "squad"),
    (6, 1, 8192, 28, 0.05, 512, "squad"),
    (3, 1, 16384, 40, 0.03, 256, "squad"),
    (3, 1, 16384, 40, 0.05, 512, "squad"),
    (3, 1, 16384, 40, 0.03, 1024, "squad"),
    (6, 2, 4000, 28, 0.05, 512, "squad"),
    (4, 6, 2048, 32, 0.05, 512, "squad"),
    (2, 3, 8192, 40, 0.03, 1024, "squad"),
    (1, 3, 16384, 40, 0.12, 512, "squad"),
    (16, 1, 2048, 10, 0.06, 256, "fairytale"),
    (6, 1, 8192, 5, 0.06, 1024, "qmsum"),
)
"""Contexts, documents, tokens, questions, weight, refilled tokens, pack."""

SHAPES = tuple(
    StepShape(
        contexts=contexts,
        documents=documents,
        tokens=tokens,
        questions=questions,
        weight=weight,
        refill_tokens=refill_tokens,
        pack=pack,
    )
    for contexts, documents, tokens, questions, weight, refill_tokens, pack in _ROWS
)
"""About 47 thousand tokens of documents and 150 questions a step; a weight is a share of all."""

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
