"""Does the GPU give what the CPU gives? Caches, choices and answers, one beside the other.

What nothing is computed with must be equal to the bit: blocks turned back, blocks stored, refilled
caches. What a model computes may differ by rounding alone.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from acre_rag import ACREConfig
from acre_rag.bench.scene import Scene, Subject
from acre_rag.cache import KVBlock, StoredBlock
from acre_rag.cache.gathered import loaded_together, stored_pieces
from acre_rag.cache.stored import FORMS, parts_of, stored_form
from acre_rag.cache.travel import arrival
from acre_rag.engine import ACREEngine
from acre_rag.errors import ModelError
from acre_rag.request import Request
from acre_rag.store.archive import CacheArchive
from benchmarks.random_models import landmark_adapter, random_model

Facts = dict[str, float | int | str | None]

_TOKENS = 5000
_SHAPE = (3, 2, 16, 24)


def check(scene: Scene) -> Facts:
    """Compare the scene's device with the CPU.

    Raises:
        ModelError: Something differs that must not.
    """
    device = scene.local.device
    facts: Facts = {"device": device.type}
    for form in FORMS:
        _check_blocks(form, device)
    facts["blocks in all forms"] = "equal"
    facts |= _check_questions(scene)
    facts |= _check_stored(scene)
    return facts


def _check_blocks(form: str, device: torch.device) -> None:
    """Store and load blocks together on the device, and one by one on the CPU."""
    generator = torch.Generator().manual_seed(0)
    layers, kv_heads, tokens, head_dim = _SHAPE
    drawn = torch.randn(2, layers, kv_heads, 9 * tokens + 5, head_dim, generator=generator)
    block = KVBlock(*drawn.bfloat16())
    near = block.to(dtype=torch.bfloat16, device=device)
    ours = stored_pieces(near, tokens, form, at_once=9)
    arrival(device)()
    theirs = [
        stored_form(block.slice(at, min(at + tokens, block.tokens)), form)
        for at in range(0, block.tokens, tokens)
    ]
    _same(f"blocks stored as {form}", ours, theirs)
    for dtype in (torch.float32, torch.bfloat16):
        back = loaded_together(theirs[:9], dtype=dtype, device=device)
        apart = KVBlock.concatenate([one.to(dtype=dtype, device="cpu") for one in theirs[:9]])
        _same(f"blocks loaded from {form}", [back.to(dtype=dtype, device="cpu")], [apart])


def _check_questions(scene: Scene) -> Facts:
    """Ask one store through both devices, a small model in float32 computing."""
    facts: Facts = {}
    config = ACREConfig(window_tokens=256, segment_tokens=2048)
    store = scene.folder / "check"
    engines = [_small(device, config, store) for device in ("cpu", scene.local.device.type)]
    theirs, ours = engines
    subject = Subject.made(theirs, _TOKENS)
    theirs.ingest(subject.document)
    worst = 0.0
    for budget in (None, 0, 64, 1000):
        request = Request(
            question=next(subject.questions),
            documents=(subject.id,),
            refill_tokens=budget,
            max_new_tokens=16,
        )
        chosen = [engine._questioner.ask(request) for engine in engines]
        scores = [one.selection.scores for one in chosen]
        worst = max(worst, float((scores[0] - scores[1]).abs().max() / scores[0].max()))
        # Ties may fall either way: what is fetched is compared for one choice.
        same = replace(chosen[1], selection=chosen[0].selection)
        caches = [theirs._questioner.refill(chosen[0]).cache, ours._questioner.refill(same).cache]
        # Each device reads the prefix itself, and rounds in its own way; all else is the store's.
        prefix = ours.reader.prefix.tokens
        blocks = [
            cache.taken.slice(prefix, cache.taken.tokens).to(dtype=torch.float32, device="cpu")
            for cache in caches
            if cache
        ]
        _same(f"refilled cache of budget {budget}", blocks[:1], blocks[1:])
        answers = [
            engine.ask(request.question, [subject.id], budget, 16).text for engine in engines
        ]
        facts[f"answers with budget {budget}"] = "equal" if len(set(answers)) == 1 else "differ"
    facts["scores, largest relative difference"] = worst
    if worst > 1e-3:
        raise ModelError(f"scores differ by {worst:.1e}; expected less than 1e-3: do not trust it")
    facts["passes captured"] = ours.reader.local.replays.captured
    _damage(store)
    mended = ours.ask(request.question, [subject.id], 1000, 16)
    if mended.text != answers[1]:
        raise ModelError("the answer after damage is another one: do not trust what is mended")
    facts["after damage"] = "equal"
    facts["tokens read again"] = mended.usage.recomputed_tokens
    for engine in engines:
        engine.close()
    return facts


def _check_stored(scene: Scene) -> Facts:
    """Read a document into a store, and once more: what was written late must be the same."""
    with scene.opened(scene.folder / "stored") as engine:
        subject = Subject.made(engine, 3 * scene.config.window_tokens + 100)
        engine.ingest(subject.document)
        archive = CacheArchive(engine.store, engine.reader.identity.space)
        manifest = archive.load_manifest(subject.id)
        if manifest is None:
            raise ModelError("found no document; expected the one that was stored: look why")
        layout = engine.reader.layout(manifest.tokens)
        differing = 0
        for window, read in engine._ingestion.mend(manifest, range(layout.windows), lambda _: None):
            for name, block in engine._ingestion.blocks(manifest, window, read).items():
                stored = archive.read_block(manifest, name)
                differing += not _equal(stored, block)
        return {
            "values stored": len(manifest.block_names),
            "values that differ when read again": differing,
        }


def _small(device: str, config: ACREConfig, store: Path) -> ACREEngine:
    """Open an engine of the tiny shape; weights are drawn on the CPU, so that all are alike."""
    local = random_model("tiny", "cpu", torch.float32)
    torch.manual_seed(1)
    adapter = landmark_adapter(local, config.interval_tokens)
    local.model.to(device)  # type: ignore[arg-type]  # its wrapper hides the module's own types
    return ACREEngine(local, adapter, store, config)


def _damage(store: Path) -> None:
    """Change a byte in each value of raw tokens."""
    for path in store.rglob("l2-*"):
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)


def _same(what: str, ours: Sequence[StoredBlock], theirs: Sequence[StoredBlock]) -> None:
    if len(ours) != len(theirs) or not all(map(_equal, ours, theirs)):
        raise ModelError(f"{what} differ between devices; expected equal bits: do not trust it")


def _equal(one: StoredBlock, other: StoredBlock) -> bool:
    pairs = zip(parts_of(one), parts_of(other), strict=True)
    return all(torch.equal(a.cpu(), b.cpu()) for a, b in pairs)
