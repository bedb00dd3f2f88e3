"""A short trial when a model is wrapped: does the twin agree with the model, to the digit?"""

import torch
from transformers import PreTrainedModel

from acre_rag.model.reading import ReadingTwin
from acre_rag.model.support import model_dtype, refusal

_ROWS = 24
_FIRST_WINDOW = 11

# Relative to the largest hidden state. A misread family is off by 1 and more; two kernels of one
# attention were 4.4e-2 apart behind 36 layers in bfloat16.
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 1e-1, torch.float16: 4e-2}


def self_check(model: PreTrainedModel, twin: ReadingTwin) -> None:
    """Compare one window, and two windows over raw memory, with the model's own forward pass.

    Raises:
        UnsupportedModelError: They differ by more than the dtype explains.
    """
    device = model.get_input_embeddings().weight.device
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.config.vocab_size
    ids = torch.randint(vocabulary, (1, _ROWS), generator=generator).to(device)  # type: ignore[arg-type]
    with torch.inference_mode():
        expected = model.model(ids, use_cache=False).last_hidden_state
        whole = twin.read(twin.embed(ids))
        first = twin.read(twin.embed(ids[:, :_FIRST_WINDOW]))
        memory = twin.remember(first.keys, first.values)
        second = twin.read(twin.embed(ids[:, _FIRST_WINDOW:]), memory=memory)
    halves = torch.cat([first.states, second.states], dim=1)
    tolerance = TOLERANCES.get(model_dtype(model), max(TOLERANCES.values()))
    for name, found in (("one window", whole.states), ("two windows", halves)):
        error = (found - expected).float().abs().max() / expected.float().abs().max()
        if not error <= tolerance:  # a NaN is refused too
            raise refusal(
                model, f"read in {name} it differs from its own forward pass by {error:.1e}"
            )
