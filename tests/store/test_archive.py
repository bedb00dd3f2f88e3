import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from acre_rag.cache import KVBlock
from acre_rag.cache.stored import QUANTIZED, form_of, stored_form
from acre_rag.errors import DamagedCacheError, StoreError
from acre_rag.store import CacheArchive, DirectoryStore, Manifest
from tests.store.samples import (
    DOCUMENT,
    OTHER_VERSION,
    SPACE,
    VERSION,
    blocks_of,
    manifest_of,
    same_bits,
)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[CacheArchive]:
    store = DirectoryStore(tmp_path, lock_seconds=0.2)
    yield CacheArchive(store, SPACE)
    store.close()


def publish(archive: CacheArchive, manifest: Manifest) -> dict[str, KVBlock]:
    blocks = blocks_of(manifest)
    with archive.writer(manifest.document_id, manifest.version) as writer:
        for name, block in blocks.items():
            writer.write_block(name, block)
        writer.publish(manifest)
    return blocks


def test_what_was_published_comes_back_bit_for_bit(archive: CacheArchive) -> None:
    manifest = manifest_of(metadata={"author": "Ada"})

    blocks = publish(archive, manifest)

    assert archive.load_manifest(DOCUMENT) == manifest
    assert all(same_bits(archive.read_block(manifest, name), blocks[name]) for name in blocks)
    assert list(archive.manifests()) == [manifest]
    assert archive.delete(DOCUMENT)
    assert archive.load_manifest(DOCUMENT) is None


def test_bytes_read_are_those_of_the_values(archive: CacheArchive, tmp_path: Path) -> None:
    manifest = manifest_of()
    publish(archive, manifest)

    archive.load_manifest(DOCUMENT)
    archive.read_block(manifest, "l2:2")
    archive.read_block(manifest, "l1:0")

    files = (tmp_path.rglob("l2-2"), tmp_path.rglob("l1-0"))
    assert archive.bytes_read == sum(path.stat().st_size for found in files for path in found)


def test_a_manifest_is_not_published_before_all_its_blocks(archive: CacheArchive) -> None:
    manifest = manifest_of()
    blocks = blocks_of(manifest)

    with archive.writer(DOCUMENT, VERSION) as writer:
        for name in ("l1:0", "l1:1", "l2:0", "l2:2"):
            writer.write_block(name, blocks[name])
        with pytest.raises(DamagedCacheError) as caught:
            writer.publish(manifest)

    assert (caught.value.reason, caught.value.value) == ("missing", "l2:1")
    assert archive.load_manifest(DOCUMENT) is None


@pytest.mark.parametrize(
    "other",
    [
        manifest_of(version=OTHER_VERSION),
        manifest_of(document_id="other"),
        manifest_of(space="ab" * 8),
    ],
)
def test_a_writer_takes_the_manifest_of_its_own_version_only(
    archive: CacheArchive, other: Manifest
) -> None:
    with archive.writer(DOCUMENT, VERSION) as writer:
        with pytest.raises(ValueError, match="the manifest is of"):
            writer.publish(other)
        with pytest.raises(ValueError, match="the manifest is of"):
            writer.read_block(other, "l1:0")


def test_an_interrupted_run_finds_its_blocks_again(archive: CacheArchive) -> None:
    manifest = manifest_of()
    blocks = blocks_of(manifest)
    with archive.writer(DOCUMENT, VERSION) as writer:
        writer.write_block("l1:0", blocks["l1:0"])

    with archive.writer(DOCUMENT, VERSION) as writer:
        assert writer.whole_blocks(manifest) == {"l1:0"}
        assert same_bits(writer.read_block(manifest, "l1:0"), blocks["l1:0"])
        with pytest.raises(DamagedCacheError, match="found no"):
            writer.read_block(manifest, "l1:1")


@pytest.mark.parametrize(
    "change", [{"layers": 4}, {"dtype": "float16"}, {"landmarks_per_block": 6}]
)
def test_a_block_that_is_not_what_the_manifest_says_is_refused(
    archive: CacheArchive, change: dict[str, object]
) -> None:
    manifest = manifest_of()
    publish(archive, manifest)

    with pytest.raises(DamagedCacheError) as caught:
        archive.read_block(replace(manifest, **change), "l1:0")

    assert caught.value.reason == "shape"


def test_a_name_that_the_manifest_lacks_is_refused(archive: CacheArchive) -> None:
    with pytest.raises(ValueError, match="expected a block"):
        archive.read_block(manifest_of(), "l2:3")


def test_listing_leaves_out_damaged_and_misplaced_manifests(
    archive: CacheArchive, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for document_id in ("a", "b", "c"):
        publish(archive, manifest_of(document_id=document_id))
    first, second, third = sorted(tmp_path.rglob("manifest"))
    first.write_bytes(second.read_bytes())
    third.write_bytes(third.read_bytes()[:-1])
    held = {m.document_id for m in archive.manifests()}

    with caplog.at_level(logging.WARNING):
        listed = list(archive.manifests())

    assert len(listed) == len(held) == 1
    assert "left out" in caplog.text


def test_a_damaged_manifest_is_no_document_but_an_error(
    archive: CacheArchive, tmp_path: Path
) -> None:
    publish(archive, manifest_of())
    (path,) = tmp_path.rglob("manifest")
    for damage in (b"", path.read_bytes()[:-1], b"\0" * 500, path.read_bytes()[1:]):
        path.write_bytes(damage)

        with pytest.raises(DamagedCacheError):
            archive.load_manifest(DOCUMENT)

    publish(archive, manifest_of())
    assert archive.load_manifest(DOCUMENT) == manifest_of()


def test_a_malformed_space_is_refused(archive: CacheArchive) -> None:
    with pytest.raises(StoreError, match="hexadecimal"):
        CacheArchive(archive.store, "../escape")


def test_blocks_that_are_missing_cut_short_or_too_long_are_not_whole(
    archive: CacheArchive, tmp_path: Path
) -> None:
    manifest = manifest_of()
    publish(archive, manifest)
    assert whole(archive) == set(manifest.block_names)

    for name, change in (("l1-0", -1), ("l2-1", 1), ("l2-0", -10_000)):
        (path,) = tmp_path.rglob(name)
        data = path.read_bytes()
        path.write_bytes(data[:change] if change < 0 else data + b"\0")

    assert whole(archive) == set(manifest.block_names) - {"l1:0", "l2:1", "l2:0"}
    with (
        archive.writer(DOCUMENT, VERSION) as writer,
        pytest.raises(DamagedCacheError, match="3 of 5 blocks missing or cut short"),
    ):
        writer.publish(manifest)


def whole(archive: CacheArchive) -> frozenset[str]:
    with archive.writer(DOCUMENT, VERSION) as writer:
        return writer.whole_blocks(manifest_of())


@pytest.mark.parametrize("form", QUANTIZED)
def test_raw_tokens_are_quantized_and_landmarks_are_not(archive: CacheArchive, form: str) -> None:
    manifest = replace(manifest_of(), dtype=form)
    rng = torch.Generator().manual_seed(1)
    shapes = {name: manifest.block_shape(name) for name in manifest.block_names}
    drawn = {
        name: KVBlock(*torch.randn(2, *shape, generator=rng)) for name, shape in shapes.items()
    }
    blocks = {name: stored_form(block, manifest.block_dtype(name)) for name, block in drawn.items()}
    with archive.writer(DOCUMENT, VERSION) as writer:
        for name, block in blocks.items():
            writer.write_block(name, block)
        writer.publish(manifest)

    read = {name: archive.read_block(manifest, name) for name in blocks}

    assert {form_of(block) for name, block in read.items() if name[:2] == "l1"} == {"bfloat16"}
    assert {form_of(block) for name, block in read.items() if name[:2] == "l2"} == {form}
    with pytest.raises(DamagedCacheError) as caught:
        archive.read_block(replace(manifest, dtype="bfloat16"), "l2:0")
    assert caught.value.reason == "shape"
