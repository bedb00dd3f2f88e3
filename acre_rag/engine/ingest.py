"""One document into the store: read what is not there yet, publish, and mend what is damaged."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timezone

from acre_rag.answer import Ingested
from acre_rag.cache import KVBlock, StoredBlock
from acre_rag.cache.gathered import stored_pieces
from acre_rag.cache.stored import PLAIN, plain_form, stored_bytes
from acre_rag.cache.travel import arrival, on_host
from acre_rag.engine.behind import WriteBehind
from acre_rag.engine.blocks import BlockPlan
from acre_rag.engine.finite import all_finite, check_finite
from acre_rag.engine.known import KnownDocuments
from acre_rag.errors import DamagedCacheError
from acre_rag.model.identity import document_version
from acre_rag.model.prefill import WindowCache
from acre_rag.model.reader import DocumentReader
from acre_rag.store.archive import ArchiveWriter, CacheArchive
from acre_rag.store.manifest import Manifest
from acre_rag.text.document import Document
from acre_rag.text.layout import Layout
from acre_rag.text.tokens import TokenizedText, interval_characters, tokenize

Progress = Callable[[str, int, int], None]


class Ingestion:
    """Turns documents into stored caches.

    Args:
        reader: Model, adapter and settings.
        archive: Where caches go.

    Attributes:
        known: What this process has stored, and read from the store.
    """

    def __init__(self, reader: DocumentReader, archive: CacheArchive) -> None:
        self._reader = reader
        self._archive = archive
        self._form = reader.config.stored_dtype
        self._plain = plain_form(self._form)
        self.known = KnownDocuments()

    def ingest(
        self, document: Document, on_progress: Progress | None, *, check: bool = False
    ) -> Ingested:
        """Store one document, unless it is stored, unchanged and whole.

        Raises:
            DocumentError: It gives no tokens.
            ConfigError: Keys or values are too large for the stored dtype.
            ModelError: The model computed something that is no number.
            StoreError: The store cannot be written.
        """
        started = time.perf_counter()
        version = document_version(self._archive.space, document.id, document.text)
        metadata = dict(document.metadata)
        text: TokenizedText | None = None
        encoded = 0
        with self._archive.writer(document.id, version) as writer:
            published = self._published(document.id)
            if published is not None and published.version == version:
                manifest = published.with_metadata(metadata)
            else:
                text = tokenize(document.text, self._reader.frame)
                manifest = self._manifest(document, version, text)
                manifest.encode()  # refuses what could not be stored, before anything is read
            missing = self._missing(manifest, writer, check=check)
            if missing:
                text = text or tokenize(document.text, self._reader.frame)
                encoded = self._read(manifest, text, missing, writer, on_progress)
            if missing or manifest != published:
                writer.publish(manifest)
        self.known.keep(manifest)
        if on_progress is not None:
            on_progress(document.id, manifest.tokens, manifest.tokens)
        return Ingested(
            id=document.id,
            tokens=manifest.tokens,
            encoded_tokens=encoded,
            seconds=time.perf_counter() - started,
        )

    def mend(
        self, manifest: Manifest, windows: Iterable[int], earlier: Callable[[int], KVBlock | None]
    ) -> Iterator[tuple[int, WindowCache]]:
        """Read some windows of a stored document again, from the text its manifest keeps."""
        text = tokenize(manifest.text, self._reader.frame)
        layout = self._reader.layout(manifest.tokens)
        for window, read in self._reader.read(text.ids, layout, windows, earlier):
            check_finite(read, manifest.document_id, PLAIN[self._plain])
            yield window, read

    def blocks(self, manifest: Manifest, window: int, read: WindowCache) -> dict[str, StoredBlock]:
        """Cut a window into the blocks that are stored, by name, in the form they are stored in.

        Raises:
            ConfigError: Keys or values are too large for the stored dtype.
            ModelError: The model computed something that is no number.
        """
        return self._under_way(manifest, window, read)()

    def _under_way(
        self, manifest: Manifest, window: int, read: WindowCache
    ) -> Callable[[], dict[str, StoredBlock]]:
        """Have the device cut a window into blocks; what comes back waits for them and checks."""
        layout = self._reader.layout(manifest.tokens)
        plan = BlockPlan(layout, manifest.intervals_per_block)
        device = read.l2.keys.device
        at_once = len(plan.window_blocks(window)) if device.type == "cuda" else 1
        own = manifest.intervals_per_block * layout.interval_tokens
        finite = on_host(all_finite(read))
        [l1] = stored_pieces(read.l1, read.l1.tokens, self._plain, at_once=1)
        l2 = stored_pieces(read.l2, own, self._form, at_once=at_once, finite=True)
        wait = arrival(device)

        def arrived() -> dict[str, StoredBlock]:
            wait()
            if not finite:
                check_finite(read, manifest.document_id, PLAIN[self._plain])
            names = (f"l2:{block}" for block in plan.window_blocks(window))
            return {f"l1:{window}": l1, **dict(zip(names, l2, strict=True))}

        return arrived

    def _published(self, document_id: str) -> Manifest | None:
        try:
            return self._archive.load_manifest(document_id)
        except DamagedCacheError:
            return None  # what cannot be read is written anew

    def _missing(self, manifest: Manifest, writer: ArchiveWriter, *, check: bool) -> list[int]:
        """Find the windows that have to be read.

        Sizes are compared always; where one is wrong, or a run was interrupted, or that is wished,
        every value is read back and its checksum compared as well.
        """
        layout = self._reader.layout(manifest.tokens)
        plan = BlockPlan(layout, manifest.intervals_per_block)
        whole = writer.whole_blocks(manifest)
        if check or len(whole) < len(manifest.block_names):
            whole = frozenset(name for name in whole if _is_sound(manifest, name, writer))
        missing = [w for w in range(layout.windows) if not plan.window_names(w) <= whole]
        if self._form != self._plain and self._reader.method(manifest.tokens) == "exact":
            # Windows see the raw tokens before them as they were before they were quantized.
            missing = list(range(missing[-1] + 1)) if missing else []
        return missing

    def _read(
        self,
        manifest: Manifest,
        text: TokenizedText,
        windows: Sequence[int],
        writer: ArchiveWriter,
        on_progress: Progress | None,
    ) -> int:
        """Read windows into the store, the others being there; count their tokens."""
        layout = self._reader.layout(manifest.tokens)
        plan = BlockPlan(layout, manifest.intervals_per_block)
        exact = self._reader.method(manifest.tokens) == "exact"

        def earlier(window: int) -> KVBlock:
            names = [f"l2:{b}" for b in plan.window_blocks(window)] if exact else [f"l1:{window}"]
            return self._reader.computed(*(writer.read_block(manifest, name) for name in names))

        def write(arrived: Callable[[], dict[str, StoredBlock]]) -> None:
            for name, block in arrived().items():
                writer.write_block(name, block)

        def note(window: int) -> None:
            if on_progress is not None:
                end = layout.window_tokens_of(window).stop
                on_progress(manifest.document_id, end, manifest.tokens)

        # A window is written while the next one is read. What a GPU was told to read is not there
        # yet when it is put: it is told of the one behind it as well before anybody waits.
        waiting = 2 if self._reader.local.device.type == "cuda" else 1
        with WriteBehind(write, note, waiting) as behind:
            for window, read in self._reader.read(text.ids, layout, windows, earlier):
                behind.put(window, self._under_way(manifest, window, read))
        return sum(len(layout.window_tokens_of(window)) for window in windows)

    def _manifest(self, document: Document, version: str, text: TokenizedText) -> Manifest:
        shape = self._reader.twin.shape
        layout = self._reader.layout(len(text.ids))
        starts, ends = interval_characters(text, layout)
        per_block = intervals_per_block(layout, self._bytes(self._form, layout.interval_tokens))
        return Manifest(
            space=self._archive.space,
            version=version,
            document_id=document.id,
            text=document.text,
            metadata=dict(document.metadata),
            model=self._reader.local.name,
            method="landmarks" if self._reader.has_landmarks else "training-free",
            tokens=layout.tokens,
            interval_tokens=layout.interval_tokens,
            window_tokens=layout.window_tokens,
            segment_tokens=layout.segment_tokens,
            landmarks_per_block=layout.window_tokens // layout.interval_tokens,
            intervals_per_block=per_block,
            interval_starts=starts.tolist(),
            interval_ends=ends.tolist(),
            layers=shape.layers,
            kv_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            dtype=self._reader.config.stored_dtype,
            payload_bytes=self._payload_bytes(BlockPlan(layout, per_block)),
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )

    def _payload_bytes(self, plan: BlockPlan) -> int:
        """Count the bytes of all keys and values of a document."""
        layout = plan.layout
        blocks = range(plan.block_of(layout.intervals - 1) + 1)
        l2 = sum(self._bytes(self._form, len(plan.block_tokens(block))) for block in blocks)
        return self._bytes(self._plain, layout.intervals) + l2

    def _bytes(self, form: str, tokens: int) -> int:
        """Count the bytes of a block of so many tokens, or landmarks, in a form."""
        shape = self._reader.twin.shape
        return stored_bytes(form, (shape.layers, shape.kv_heads, tokens, shape.head_dim))


def _is_sound(manifest: Manifest, name: str, writer: ArchiveWriter) -> bool:
    try:
        writer.read_block(manifest, name)
    except DamagedCacheError:
        return False
    return True


def intervals_per_block(layout: Layout, interval_bytes: int) -> int:
    """Group so many neighbouring intervals that a stored block has 128 KB or more.

    Smaller values are slow to fetch; larger ones bring more than was chosen. A block never
    crosses the end of a window.
    """
    per_window = layout.window_tokens // layout.interval_tokens
    for count in range(1, per_window + 1):
        if per_window % count == 0 and count * interval_bytes >= 128 * 1024:
            return count
    return per_window
