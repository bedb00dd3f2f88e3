"""Every part on the tiny Llama: figures are there, and are what they say."""

from dataclasses import replace
from pathlib import Path

import pytest

from acre_rag.bench import at_once
from acre_rag.bench.decode import decode
from acre_rag.bench.encode import encode
from acre_rag.bench.figures import Findings
from acre_rag.bench.first_token import first_token
from acre_rag.bench.growth import budget, documents, doubling, spread
from acre_rag.bench.llama_cpp import llama_cpp
from acre_rag.bench.load import keep_asking, load, slope
from acre_rag.bench.machine import layer_weights, machine
from acre_rag.bench.made_text import made_text
from acre_rag.bench.parts import measure
from acre_rag.bench.peak import peak_bytes
from acre_rag.bench.policy import policy
from acre_rag.bench.redis_server import running_redis
from acre_rag.bench.scene import Scene, Sizes
from acre_rag.errors import ConfigError


def _figures(found: Findings, tokens: int) -> set[tuple[str, str]]:
    return {(one.what, one.against) for one in found.comparisons if one.tokens == tokens}


def test_first_tokens_stand_beside_every_alternative(scene: Scene) -> None:
    found = first_token(scene)

    warm, cold = "first token, directory, warm", "first token, directory, cold"
    whole = "all keys and values from a file"
    always = {(warm, cold), (warm, "first question of a new engine")}
    beside = {
        *((warm, "full prefill"), (cold, "full prefill"), (warm, whole), (cold, f"{whole}, cold")),
        *((warm, "prefill of as many tokens of text"),),
        *(("bytes read, warm", whole), ("bytes read, cold", whole)),
    }
    shown = _figures(found, 300)
    assert {one for one in shown if one[0] != "peak memory of a question"} == always | beside
    assert _figures(found, 700) == always  # too long for a full prefill
    assert any("longer than the context" in note for note in found.notes)
    assert all(len(one.ours) == 2 for one in found.comparisons if one.unit == "s")
    read = {one.what: one.ours[0] for one in found.comparisons if one.unit == "bytes"}
    assert read["bytes read, warm"] < read["bytes read, cold"]  # landmarks stay in memory
    assert found.facts["300 tokens: landmarks"] == 75
    assert all(found.facts[f"300 tokens, warm: {s}, ms"] for s in ("load", "select", "fetch"))
    assert found.facts["300 tokens, new engine: opening it, ms"]


@pytest.mark.redis
def test_first_tokens_come_over_redis_too(scene: Scene, tmp_path: Path) -> None:
    sizes = replace(scene.sizes, tokens=(300,), rounds=1)
    with running_redis(tmp_path / "redis") as url:
        found = first_token(replace(scene, sizes=sizes, redis=url))

    assert {way for way, _ in _figures(found, 300)} >= {
        "first token, Redis, warm",
        "first token, Redis, cold",
    }


def test_encoding_stands_beside_plain_prefill_and_the_same_windows(scene: Scene) -> None:
    found = encode(scene)

    shown = {one.what for one in found.comparisons}
    assert shown == {"encode into a directory", "read windows with landmarks"}
    assert all(one.work == one.tokens == 300 and one.goal == 0.85 for one in found.comparisons)
    # Tiny settings store float32: keys and values of 3 layers, 2 heads of 6, and a landmark for 4.
    assert found.facts["300 tokens: stored bytes a token"] == 3 * 2 * 6 * 2 * 4 * 1.25
    assert {"300 tokens: peak memory of encoding, MB"} <= set(found.facts)
    assert any("700 tokens" in note for note in found.notes)


def test_decoding_stands_beside_a_stock_cache_of_the_same_length(scene: Scene) -> None:
    found = decode(replace(scene, sizes=replace(scene.sizes, tokens=(300,))))

    length = found.facts["300 tokens: length of the refilled cache"]
    same, whole = found.comparisons
    assert same.against == f"stock generate over {length} tokens"
    assert same.goal == 1.0
    assert whole.goal is None


def test_auto_stands_beside_the_best_plan_of_each_length(scene: Scene) -> None:
    found = policy(replace(scene, sizes=replace(scene.sizes, tokens=(1000,))))

    assert [one.tokens for one in found.comparisons] == [31, 62, 125, 250, 500, 1000]
    assert all(one.against.startswith("the best plan here, ") for one in found.comparisons)
    assert {one.goal for one in found.comparisons} == {0.91}
    best = found.comparisons[0].against.removeprefix("the best plan here, ")
    assert f"125 tokens: {best}, ms (predicted)" in found.facts
    assert found.facts["125 tokens: auto took"] in {"refill", "recompute", "prefill"}
    # Too long for the context: two plans are left, and one is taken.
    assert "1000 tokens: prefill, ms (predicted)" not in found.facts
    assert found.facts["1000 tokens: auto took"] in {"refill", "recompute"}
    slowest = max(1 / one.ratio.median for one in found.comparisons)
    assert found.facts["auto's time over the best plan's, worst"] == round(slowest, 3)


def test_a_slope_is_what_each_value_adds() -> None:
    assert slope([5, 7, 9, 11]) == pytest.approx(2)
    assert slope([5]) == 0


def test_growth_has_a_curve_with_a_reason_for_each_size(scene: Scene) -> None:
    sizes = {"documents asked": (1, 2), "refilled tokens": (64, 128)}
    small = replace(scene, sizes=replace(scene.sizes, tokens=(300,), rounds=1))
    for part, (name, expected) in zip((documents, budget), sizes.items(), strict=True):
        (curve,) = part(small).curves
        assert (curve.of, curve.sizes) == (name, expected)
        assert curve.why
        assert min(curve.seconds) > 0


def test_a_batch_stands_beside_one_question_after_another(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(at_once, "_GOAL_QUESTIONS", 4)
    sizes = replace(scene.sizes, tokens=(300,), rounds=1, askers=2)

    found = at_once.at_once(replace(scene, sizes=sizes))

    threads, batch = found.curves
    assert (threads.sizes, batch.sizes) == ((1, 2), (1, 2, 4))
    assert all(curve.why for curve in found.curves)
    assert [one.against for one in found.comparisons] == ["one after another"] * 3
    assert [one.goal for one in found.comparisons] == [None, None, 3.0]
    assert all(min(one.ours + one.theirs) > 0 for one in found.comparisons)


def test_askers_are_all_answered_and_errors_are_counted(scene: Scene) -> None:
    found = load(scene)

    assert found.facts["errors"] == 0
    assert int(found.facts["answers"] or 0) >= scene.sizes.askers
    assert "memory, slope behind the first quarter, MB a minute" in found.facts
    with scene.opened(scene.folder / "empty") as engine:
        course = keep_asking(engine, "not there", 2, 0.01)
    assert len(course.errors) == sum(map(len, course.waits)) >= 2
    assert "not there" in course.errors[0]


def test_what_the_machine_can_do_is_told_of_this_model(scene: Scene) -> None:
    found = machine(scene)

    model = scene.local.model
    layers = [p for n, p in model.named_parameters() if "embed" not in n and "lm_head" not in n]
    assert layer_weights(scene) == sum(p.numel() for p in layers)
    assert float(found.facts["copy, GB/s"] or 0) > 0


def test_llama_cpp_says_why_it_is_left_out(scene: Scene) -> None:
    assert "demo model" in llama_cpp(scene).notes[0]


def test_a_part_tells_what_it_was_measured_with(scene: Scene) -> None:
    measured = measure("llama-cpp", scene)

    assert measured.settings["model"] == "llama"
    assert measured.settings["tokens"] == (300, 700)
    assert measured.settings["window_tokens"] == scene.config.window_tokens
    assert {"date", "commit", "processor", "torch", "transformers"} <= set(measured.provenance)


@pytest.mark.parametrize("tokens", [1, 17, 400])
def test_a_text_has_as_many_tokens_as_asked_for_and_is_always_the_same(
    scene: Scene, tokens: int
) -> None:
    with scene.opened(scene.folder / "store") as engine:
        frame = engine.reader.frame
    text = made_text(frame, tokens)

    assert len(frame.encode_with_offsets(text)[0]) == tokens
    assert text == made_text(frame, tokens)
    assert tokens < 10 or text != made_text(frame, tokens, seed=1)


def test_a_peak_is_what_was_taken_and_given_back() -> None:
    found = peak_bytes(lambda: bytearray(b"x") * 60_000_000)

    assert found is None or 55e6 < found < 120e6


@pytest.mark.parametrize(
    ("name", "value"), [("tokens", ()), ("tokens", (0,)), ("rounds", 0), ("new_tokens", 2)]
)
def test_sizes_that_measure_nothing_are_refused(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{name} is"):
        Sizes(**{name: value})  # type: ignore[arg-type]


def test_sizes_double_and_are_two_at_least() -> None:
    assert doubling(1000, 8500) == [1000, 2000, 4000, 8000]
    assert doubling(64, 10) == [64, 128]


def test_long_ways_are_gone_in_few_steps_to_their_end() -> None:
    assert spread(1000, 8500) == doubling(1000, 8500)
    assert spread(1000, 1_000_000) == [1000, 4000, 16_000, 64_000, 256_000, 1_000_000]
    assert spread(1000, 300_000) == [1000, 4000, 16_000, 64_000, 256_000]
