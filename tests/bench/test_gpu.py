"""`benchmarks/gpu.py` on its tiny shape: own parts give their figures, shared ones a share."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from acre_rag import ACREConfig
from acre_rag.bench.scene import Scene, Sizes
from benchmarks.gpu import make_scene, million, peak, run_part, window_flops
from benchmarks.random_models import SHAPES, landmark_adapter, random_model


@pytest.fixture
def tiny(tmp_path: Path) -> Scene:
    """A document of 600 tokens, in intervals of 64 and windows of 256."""
    config = ACREConfig(interval_tokens=64, window_tokens=256, segment_tokens=512)
    return make_scene("tiny", config, Sizes(tokens=(600,), rounds=1), tmp_path, None)


def test_a_long_document_is_encoded_and_asked(tiny: Scene) -> None:
    facts = million(tiny)

    assert facts["landmarks"] == 10
    assert facts["refilled"] in (4 * 64, 3 * 64 + 600 % 64)  # the last interval is shorter
    assert float(facts["encode, tokens/s"] or 0) > 0
    assert float(facts["cold: read, MB"] or 0) >= float(facts["warm 1: read, MB"] or 0)


def test_the_memory_of_a_question_stands_beside_all_keys_and_values(tiny: Scene) -> None:
    facts = peak(tiny)

    # Keys and values of 3 layers, 2 heads of 16, in two bytes each.
    assert facts["600 tokens: all keys and values, MB"] == round(600 * 3 * 2 * 2 * 16 * 2 / 1e6, 1)


def test_encoding_tells_its_share_of_the_peak(tiny: Scene) -> None:
    found = run_part("encode", tiny, peak_tflops=1e-6)

    operations = window_flops(tiny)
    fastest = min(found.findings.comparisons[0].ours)
    share = found.findings.facts["600 tokens: encode into a directory, share of peak"]
    assert share == pytest.approx(operations * 600 / fastest / 1e6, rel=1e-3)
    assert operations > 2 * sum(
        p.numel() for n, p in tiny.local.model.named_parameters() if "layers" in n
    )


def test_shapes_are_those_of_the_models_they_are_named_after() -> None:
    with torch.device("meta"):
        sizes = {
            name: AutoModelForCausalLM.from_config(SHAPES[name]()).num_parameters()
            for name in ("qwen2.5-3b", "llama-3.1-8b")
        }

    assert sizes == {"qwen2.5-3b": 3_085_938_688, "llama-3.1-8b": 8_030_261_248}


def test_a_landmark_adapter_is_of_the_interval_that_is_asked_for() -> None:
    adapter = landmark_adapter(random_model("tiny", "cpu", torch.float32), 32)

    assert adapter.interval_tokens == 32
    assert adapter.selection is not None
    assert float(adapter.selection.sum()) == pytest.approx(1)
