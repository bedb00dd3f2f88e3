"""`acre documents`, `inspect`, `delete`, `stores pin`: documents, whatever model made them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from acre_rag.cli.groups import ModelOptions, OutputOptions, StoreOptions
from acre_rag.cli.session import not_stored, opened_engine, opened_store
from acre_rag.cli.show import show_json, show_table, size

if TYPE_CHECKING:
    from acre_rag.store import CacheArchive, Manifest

_SHORT = 8

Named = Annotated[
    list[str],
    typer.Argument(metavar="DOCUMENT...", help="Ids of documents.", show_default=False),
]


def documents(
    *,
    place: StoreOptions,
    model: ModelOptions,
    output: OutputOptions,
) -> None:
    """List what is stored.

    A cache serves the model, adapter and settings it was made with: each such set has a space of
    its own, named by the beginning of its digest. With options of a model, it is loaded and its own
    documents alone are listed; without, all are, and no model is needed. `acre inspect` and --json
    tell more.

    For example:

        acre documents
        acre documents --store ./caches --json | jq .document
    """
    with _archives(place, model) as archives:
        found = [manifest for archive in archives for manifest in archive.manifests()]
    found.sort(key=lambda manifest: (manifest.document_id, manifest.space))
    if output.json:
        for manifest in found:
            show_json(_facts(manifest))
        return
    rows = [
        (
            *(manifest.document_id, manifest.space[:_SHORT], manifest.model),
            *(f"{manifest.tokens:,}", size(manifest.payload_bytes), manifest.created[:10]),
        )
        for manifest in found
    ]
    if rows:  # more than these would leave too little of a terminal's width to the names
        show_table(("document", "space", "model", "tokens", "size", "created"), rows, left=3)
    else:
        typer.echo("no documents; acre ingest PATH reads some")


def inspect(
    document: Annotated[
        str, typer.Argument(metavar="DOCUMENT", help="Id of a document.", show_default=False)
    ],
    *,
    place: StoreOptions,
    model: ModelOptions,
    output: OutputOptions,
) -> None:
    """Show what a document's cache consists of.

    One that several models have read is shown for each of them; options of a model pick one.

    For example:

        acre inspect manual.md
        acre inspect manual.md --json | jq .bytes
    """
    with _archives(place, model) as archives:
        loaded = [archive.load_manifest(document) for archive in archives]
    found = [manifest for manifest in loaded if manifest is not None]
    if not found:
        raise not_stored([document])
    for manifest in found:
        facts = _facts(manifest)
        if output.json:
            show_json(facts)
        else:
            show_table(("", ""), [(name, _shown(value)) for name, value in facts.items()], left=2)


def delete(
    document: Named,
    *,
    place: StoreOptions,
    model: ModelOptions,
    output: OutputOptions,
) -> None:
    """Remove documents from the store: caches, text and all, of every model that read them.

    With options of a model, its cache alone goes. What is not there is reported when
    the others are gone.

    For example:

        acre delete manual.md
        acre delete old/a.txt old/b.txt --store ./caches
    """
    missing = []
    with _archives(place, model) as archives:
        for name in dict.fromkeys(document):
            removed = sum([archive.delete(name) for archive in archives])
            if not removed:
                missing.append(name)
            elif output.json:
                show_json({"document": name, "caches": removed})
            else:
                typer.echo(f"{name}: deleted" + (f", {removed} caches" if removed > 1 else ""))
    if missing:
        raise not_stored(missing)


def pin(
    document: Named,
    *,
    place: StoreOptions,
    model: ModelOptions,
    output: OutputOptions,
) -> None:
    """Keep documents for good, whatever time to live or limit of bytes their store has.

    It holds for versions that replace them, until they are unpinned or deleted. A directory
    keeps all documents for good. With options of a model, its cache alone is pinned.

    For example:

        acre stores pin manual.md --store redis://cache.example:6379/0
    """
    _pin(document, place, model, output, pinned=True)


def unpin(
    document: Named,
    *,
    place: StoreOptions,
    model: ModelOptions,
    output: OutputOptions,
) -> None:
    """Let pinned documents expire or be evicted again, as their store does with others.

    For example:

        acre stores unpin manual.md --store redis://cache.example:6379/0
    """
    _pin(document, place, model, output, pinned=False)


def _pin(
    documents: list[str],
    place: StoreOptions,
    model: ModelOptions,
    output: OutputOptions,
    *,
    pinned: bool,
) -> None:
    missing = []
    with _archives(place, model) as archives:
        for name in dict.fromkeys(documents):
            if not sum([archive.pin(name, pinned=pinned) for archive in archives]):
                missing.append(name)
            elif output.json:
                show_json({"document": name, "pinned": pinned})
            else:
                typer.echo(f"{name}: {'pinned' if pinned else 'unpinned'}")
    if missing:
        raise not_stored(missing)


@contextmanager
def _archives(place: StoreOptions, model: ModelOptions) -> Iterator[list["CacheArchive"]]:
    """Open one space of a store, if a model is named, else all of them."""
    from acre_rag.store import CacheArchive

    with opened_store(place.store, place.key_file) as opened:
        if model == ModelOptions():
            yield [CacheArchive(opened, space) for space in opened.spaces()]
            return
        with opened_engine(opened, model) as engine:
            yield [CacheArchive(opened, engine.reader.identity.space)]


def _facts(manifest: "Manifest") -> dict[str, object]:
    """Say all that a manifest knows, but for the text."""
    levels = [name.partition(":")[0] for name in manifest.block_names]
    return {
        "document": manifest.document_id,
        "space": manifest.space,
        "version": manifest.version,
        "model": manifest.model,
        "method": manifest.method,
        "created": manifest.created,
        "characters": len(manifest.text),
        "tokens": manifest.tokens,
        "segments": -(-manifest.tokens // manifest.segment_tokens),
        "windows": -(-manifest.tokens // manifest.window_tokens),
        "landmarks": manifest.intervals,
        "interval_tokens": manifest.interval_tokens,
        "blocks": {"l1": levels.count("l1"), "l2": levels.count("l2")},
        "bytes": manifest.payload_bytes,
        "dtype": manifest.dtype,
        "layers": manifest.layers,
        "kv_heads": manifest.kv_heads,
        "head_dim": manifest.head_dim,
        "metadata": manifest.metadata,
    }


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {entry}" for name, entry in value.items()) or "-"
    return f"{value:,}" if isinstance(value, int) else str(value)
