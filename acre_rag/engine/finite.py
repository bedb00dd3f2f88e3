"""Keys and values that are numbers: what overflowed is never stored, nor answered from."""

import torch

from acre_rag.cache import KVBlock
from acre_rag.errors import ACREError, ConfigError, ModelError
from acre_rag.model.prefill import WindowCache


def all_finite(read: WindowCache) -> torch.Tensor:
    """Tell whether a window holds numbers alone, (), bool, where the window is."""
    parts = (part for block in (read.l1, read.l2) for part in (block.keys, block.values))
    return torch.stack([part.isfinite().all() for part in parts]).all()


def check_finite(read: WindowCache, document_id: str, stored_dtype: torch.dtype) -> None:
    """Refuse a window that holds an infinity or a NaN.

    Args:
        read: A window, rounded to the stored dtype.
        document_id: Document that it belongs to.
        stored_dtype: Number type of the store.

    Raises:
        ConfigError: The model's numbers are too large for the stored dtype.
        ModelError: The model itself computed no number.
    """
    if all_finite(read):
        return
    for block in (read.l1, read.l2):
        if not (block.keys.isfinite().all() and block.values.isfinite().all()):
            raise _overflow(block, document_id, stored_dtype)


def _overflow(block: KVBlock, document_id: str, stored_dtype: torch.dtype) -> ACREError:
    computed = block.keys.dtype
    largest = torch.finfo(stored_dtype).max
    if largest < torch.finfo(computed).max and not bool(
        block.keys.isnan().any() or block.values.isnan().any()
    ):
        stored = str(stored_dtype).removeprefix("torch.")
        return ConfigError(
            f"keys or values of document {document_id!r} are too large for {stored}; expected "
            f"numbers up to {largest:,.0f}: set stored_dtype to 'bfloat16' or 'float32'"
        )
    name = str(computed).removeprefix("torch.")
    remedy = "load it in bfloat16 or float32" if computed == torch.float16 else "check its weights"
    return ModelError(
        f"the model found keys or values of document {document_id!r} that are infinite or not a "
        f"number, computing in {name}; expected finite ones: {remedy}"
    )
