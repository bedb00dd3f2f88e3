"""`benchmarks/gpu.py` on its tiny shape: own parts give their figures, shared ones a share."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from acre_rag import ACREConfig
from acre_rag.bench.parts import read_parts, write_part
from acre_rag.bench.report import markdown
from acre_rag.bench.scene import Scene, Sizes
from acre_rag.cache import KVBlock
from acre_rag.errors import ModelError
from acre_rag.model.local import LocalModel
from benchmarks import gpu_check, gpu_parts, gpu_replays
from benchmarks.gpu import main, make_scene
from benchmarks.gpu_parts import million, peak, run_part, window_flops
from benchmarks.gpu_profile import profiled
from benchmarks.gpu_replays import replays
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


def test_a_device_is_held_to_what_the_cpu_gives(
    tiny: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_check, "_TOKENS", 1200)

    facts = gpu_check.check(tiny)

    assert facts["blocks in all forms"] == facts["after damage"] == "equal"
    assert facts["values that differ when read again"] == 0
    assert facts["scores, largest relative difference"] == 0
    assert float(facts["tokens read again"] or 0) > 0


def test_a_device_that_gives_something_else_is_found_out(
    tiny: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = gpu_check.loaded_together

    def wrong(*blocks: Any, **where: Any) -> KVBlock:  # noqa: ANN401  # as it is
        block = load(*blocks, **where)
        return KVBlock(block.keys, block.values.flip(2))

    monkeypatch.setattr(gpu_check, "loaded_together", wrong)

    with pytest.raises(ModelError, match="differ between devices"):
        gpu_check.check(tiny)


def test_replayed_passes_are_held_to_the_models_own(tmp_path: Path) -> None:
    config = ACREConfig(window_tokens=256, segment_tokens=512)
    sizes = Sizes(tokens=(500,), rounds=1)
    scene = make_scene("tiny", config, sizes, tmp_path, None, torch.float32)

    facts = replays(scene)

    assert facts["failed"] == facts["answers of several lengths that differ"] == 0
    assert float(facts["captured"] or 0) > 10


def test_replayed_passes_that_give_something_else_are_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = gpu_replays.generate_greedily

    def wrong(local: LocalModel, *answered: Any) -> torch.Tensor:  # noqa: ANN401  # as it is
        replayed = bool(local.replays.devices)
        return made(local, *answered) + replayed

    monkeypatch.setattr(gpu_replays, "generate_greedily", wrong)
    monkeypatch.setattr(gpu_replays, "_BUDGETS", (64,))
    config = ACREConfig(window_tokens=256, segment_tokens=512)
    sizes = Sizes(tokens=(500,), rounds=1)

    facts = replays(make_scene("tiny", config, sizes, tmp_path, None, torch.float32))

    assert float(facts["failed"] or 0) >= 3
    assert "token 0" in str(facts["several lengths"])
    assert facts["threads"] == "passed"


def test_a_part_that_fails_is_told_and_the_next_one_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: Scene) -> dict[str, float | int | str | None]:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(gpu_parts, "OWN_PARTS", {**gpu_parts.OWN_PARTS, "profile": broken})
    line = "--shape tiny --part profile peak --tokens 300 400 --rounds 1 --replays --json"
    monkeypatch.setattr("sys.argv", ["gpu", *line.split(), str(tmp_path)])

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 1
    assert capsys.readouterr().err.count("no such kernel") >= 2
    assert [part.part for part in read_parts([tmp_path / "tiny-400-replays"])] == ["peak"]
    assert (tmp_path / "tiny-300-replays" / "peak.json").exists()


def test_each_stage_is_profiled(tiny: Scene) -> None:
    facts = profiled(tiny)

    stages = {name.partition(":")[0] for name in facts}
    assert {"load and select", "fetch and splice", "rotate and first token"} <= stages
    assert all(float(facts[f"{stage}: wall, ms"] or 0) > 0 for stage in stages)
    assert "aten::" in str(facts["load and select: host 1"])


def test_its_parts_are_read_back_and_reported(tiny: Scene, tmp_path: Path) -> None:
    for part in ("peak", "million"):
        write_part(run_part(part, tiny, 1.0), tmp_path / "parts" / f"{part}.json")

    page = markdown(read_parts([tmp_path / "parts"]))

    assert page.index("## Peak memory of a question") < page.index("## A million tokens")
    assert "`python -m benchmarks.gpu --part million`" in page


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
