"""What this machine can do: how fast it moves bytes, and how fast it multiplies."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from acre_rag.bench.figures import Findings
from acre_rag.bench.made_text import QUESTIONS
from acre_rag.bench.rounds import timed
from acre_rag.bench.scene import Scene
from acre_rag.cache.stored import stored_bytes
from acre_rag.refill.budget import LEAST_REFILL, MOST_REFILL
from acre_rag.refill.scoring import weighted_layers

_COPIED_BYTES = 2**28
_TRIES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Speeds:
    """Limits that no program on this machine beats.

    Attributes:
        bytes_per_second: Read and written by one large copy, counted twice.
        wide_flops: Floating point operations a second of a long matrix product in the model's
            number type, 1,024 rows.
        narrow_flops: The same for a question's 32 rows.
    """

    bytes_per_second: float
    wide_flops: float
    narrow_flops: float


def measure_speeds(dtype: torch.dtype, device: torch.device, width: int = 2048) -> Speeds:
    """Measure the best of a few tries each; takes a second or two."""
    source = torch.ones(_COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = _best(lambda: target.copy_(source))
    weights = torch.randn(width, width, device=device).to(dtype)

    def flops(rows: int) -> float:
        given = torch.randn(rows, width, device=device).to(dtype)
        return 2 * rows * width * width / _best(lambda: given @ weights)

    with torch.inference_mode():
        return Speeds(
            bytes_per_second=2 * _COPIED_BYTES / copy,
            wide_flops=flops(1024),
            narrow_flops=flops(32),
        )


def machine(scene: Scene) -> Findings:
    """Measure the machine in the model's number type."""
    local = scene.local
    speeds = measure_speeds(local.model.dtype, local.device)
    weights = weight_bytes(scene)
    return Findings(
        facts={
            "copy, GB/s": round(speeds.bytes_per_second / 1e9, 2),
            "matrix product of 1,024 rows, GFLOP/s": round(speeds.wide_flops / 1e9, 1),
            "matrix product of 32 rows, GFLOP/s": round(speeds.narrow_flops / 1e9, 1),
            "weights read for a token, MB": round(weights / 1e6, 1),
            "least time for a token, ms": round(1e3 * weights / speeds.bytes_per_second, 2),
            "least time to encode a token, ms": round(
                1e3 * 2 * layer_weights(scene) / speeds.wide_flops, 3
            ),
        }
        | _limits(scene, speeds)
    )


def _limits(scene: Scene, speeds: Speeds) -> dict[str, float | int | str | None]:
    """Work out the least time to a first token: products with weights, and bytes that are read."""
    with scene.opened(scene.folder / "machine") as engine:
        rows = len(engine.reader.frame.question_rows(QUESTIONS[0]).ids)
        shape = engine.reader.twin.shape
        weighed = engine.reader.selection
        # Behind the last layer that a weight looks at, the look at the landmarks ends.
        looked = shape.layers if weighed is None else max(weighted_layers(weighed)) + 1
    products = 2 * layer_weights(scene)
    weights = weight_bytes(scene) / speeds.bytes_per_second
    one_pass = max(rows * products / speeds.narrow_flops, weights)
    facts: dict[str, float | int | str | None] = {
        "rows of a question": rows,
        "layers that look at the landmarks": f"{looked} of {shape.layers}",
    }
    for tokens in scene.sizes.tokens:
        refilled = min(max(tokens // 4, LEAST_REFILL), MOST_REFILL, tokens)
        stored = (shape.layers, shape.kv_heads, refilled, shape.head_dim)
        size = stored_bytes(scene.config.stored_dtype, stored)
        # The question goes over the landmarks, and then over what was refilled.
        least = (looked / shape.layers + 1) * one_pass + size / speeds.bytes_per_second
        whole = tokens * products / speeds.wide_flops
        facts[f"{tokens} tokens: bytes of the refill, MB"] = round(size / 1e6, 1)
        facts[f"{tokens} tokens: least time of a first token, ms"] = round(1e3 * least, 1)
        facts[f"{tokens} tokens: least time of a full prefill, ms"] = round(1e3 * whole, 1)
    return facts


def layer_weights(scene: Scene) -> int:
    """Count the weights that every row goes through, embeddings left out."""
    embeddings = {id(p) for p in scene.local.model.get_input_embeddings().parameters()}
    head = scene.local.model.get_output_embeddings()
    embeddings |= {id(p) for p in head.parameters()} if head is not None else set()
    return sum(p.numel() for p in scene.local.model.parameters() if id(p) not in embeddings)


def weight_bytes(scene: Scene) -> int:
    """Count the bytes of the weights that a new token needs: all layers, and the last product."""
    head = scene.local.model.get_output_embeddings()
    last = sum(p.numel() for p in head.parameters()) if head is not None else 0
    return (layer_weights(scene) + last) * scene.local.model.dtype.itemsize


def _best(run: Callable[[], object]) -> float:
    """Seconds of the fastest of a few tries; one before them warms up."""
    run()
    return min(timed(run)[0] for _ in range(_TRIES))
