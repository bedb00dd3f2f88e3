"""Stored caches back into tensors: L1 at once, L2 only where it was chosen; damage is mended."""

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from typing import TypeVar

from acre_rag.cache import KVBlock, StoredBlock
from acre_rag.cache.gathered import pageable
from acre_rag.engine.arrivals import reader_arrivals
from acre_rag.engine.blocks import BlockPlan
from acre_rag.engine.ingest import Ingestion
from acre_rag.engine.known import LandmarkCache, Landmarks
from acre_rag.engine.ledger import Ledger
from acre_rag.engine.recalled import Recalled, RecalledDocument
from acre_rag.engine.windows import put_window, window_of
from acre_rag.errors import DamagedCacheError, DocumentReplacedError, StoreError
from acre_rag.model.prefill import WindowCache
from acre_rag.model.reader import DocumentReader, none_known
from acre_rag.store.archive import CacheArchive
from acre_rag.store.manifest import Manifest
from acre_rag.store.missing import not_stored
from acre_rag.text.document import is_passage
from acre_rag.text.layout import Layout

_LOG = logging.getLogger("acre_rag")
_LANDMARK_CACHE_BYTES = 2**30

Computed = TypeVar("Computed")


class Recall:
    """Brings stored caches back, and reads again what cannot be brought back.

    Args:
        reader: Model, adapter and settings.
        archive: Where caches are.
        ingestion: Mends what is damaged.
    """

    def __init__(self, reader: DocumentReader, archive: CacheArchive, ingestion: Ingestion) -> None:
        self._reader = reader
        self._archive = archive
        self._ingestion = ingestion
        self._landmarks = LandmarkCache(_LANDMARK_CACHE_BYTES)

    def recall(self, ids: Sequence[str] | None) -> Recalled:
        """Load the landmarks of documents; `None` takes all that are stored but passages.

        Raises:
            DocumentNotFoundError: One of them is not stored.
            DamagedCacheError: A manifest is damaged, and with it the text.
        """
        return self.load(self.find(ids))

    def load(self, manifests: Iterable[Manifest], *, encode: bool = False) -> Recalled:
        """Load the landmarks of documents that were found.

        Args:
            manifests: The documents.
            encode: Encode them again, and keep all blocks in memory, rather than load anything.
        """
        ledger = Ledger(CacheArchive(self._archive.store, self._archive.space))
        recalled = self._encoded if encode else self._loaded
        return Recalled(tuple(recalled(manifest, ledger) for manifest in manifests), ledger)

    def shared(self, recalled: Recalled) -> Recalled:
        """Give the documents of one question to a further one, whose costs are its own."""
        ledger = Ledger(CacheArchive(self._archive.store, self._archive.space))
        return Recalled(recalled.documents, ledger)

    def remembers(self, manifest: Manifest) -> bool:
        """Tell whether the landmarks of a document are in memory."""
        return self._landmarks.find(manifest) is not None

    def fetch(
        self,
        document: RecalledDocument,
        intervals: Sequence[int],
        ledger: Ledger,
        put: Callable[[list[int], KVBlock], None],
    ) -> None:
        """Load the raw tokens of some intervals, rising, and of those alone.

        Args:
            document: Which they are of.
            intervals: Which are wanted.
            ledger: Costs, counted on.
            put: Given some of the intervals, rising, and their tokens, not rotated, in the model's
                dtype and on its device, as they come; each interval once.
        """
        manifest = document.manifest
        plan = BlockPlan(document.layout, manifest.intervals_per_block)
        chosen: dict[int, list[int]] = {}
        for interval in intervals:
            chosen.setdefault(plan.block_of(interval), []).append(interval)
        arrivals = reader_arrivals(self._reader, put)

        def arrive(number: int, block: StoredBlock) -> None:
            start = plan.block_tokens(number).start
            for interval in chosen[number]:
                span = document.layout.interval_tokens_of(interval)
                arrivals.add(interval, block.slice(span.start - start, span.stop - start))

        names = {block: f"l2:{block}" for block in chosen}
        if document.encoded:
            for number, name in names.items():
                arrive(number, document.encoded[name])
        else:
            _, damaged = self._read(manifest, names, ledger, arrive)
            arrivals.flush()  # what is mended comes out of turn
            windows = {plan.window_of(block) for block in damaged}
            for window, read in self._mend(document, windows, ledger).items():
                pieces = self._ingestion.blocks(manifest, window, read)
                for number, name in names.items():
                    if number in damaged and name in pieces:
                        arrive(number, pieces[name])
        arrivals.flush()

    def forget(self, document_id: str) -> None:
        """Let go of what is in memory of a document."""
        self._landmarks.drop(document_id)
        self._ingestion.known.drop(document_id)

    def find(self, ids: Sequence[str] | None) -> list[Manifest]:
        """Look documents up; while the store cannot be reached, in what this process knows.

        Raises:
            DocumentNotFoundError: One of them is not stored.
            DamagedCacheError: A manifest is damaged, and with it the text.
        """
        known = self._ingestion.known
        try:
            if ids is not None:
                return self._named(ids)
            every = self._archive.manifests(strict=self._reader.config.on_damage == "raise")
            listed = [one for one in every if not is_passage(one.document_id)]
        except StoreError as error:
            remembered = known.find(ids)
            damaged = isinstance(error, DamagedCacheError)
            if damaged or self._reader.config.on_damage == "raise" or remembered is None:
                raise
            _LOG.warning("asking documents as this process has known them last: %s", error)
            return remembered
        known.keep_all(listed)
        return listed

    def _named(self, ids: Iterable[str]) -> list[Manifest]:
        manifests = []
        for document_id in dict.fromkeys(ids):
            manifest = self._archive.load_manifest(document_id)
            if manifest is None:
                self.forget(document_id)
                raise not_stored(self._archive, document_id)
            self._ingestion.known.keep(manifest)
            manifests.append(manifest)
        return manifests

    def _loaded(self, manifest: Manifest, ledger: Ledger) -> RecalledDocument:
        layout = self._reader.layout(manifest.tokens)
        landmarks = self._landmarks.find(manifest)
        if landmarks is None:
            landmarks = self._load_landmarks(manifest, layout, ledger)
            self._landmarks.keep(manifest, landmarks)
        return RecalledDocument(manifest, layout, landmarks)

    def _encoded(self, manifest: Manifest, ledger: Ledger) -> RecalledDocument:
        layout = self._reader.layout(manifest.tokens)
        blocks: dict[str, StoredBlock] = {}
        for window, read in self._ingestion.mend(manifest, range(layout.windows), none_known):
            pieces = self._ingestion.blocks(manifest, window, read)
            blocks |= {name: pageable(piece) for name, piece in pieces.items()}
        landmarks = self._room(layout)
        for window in range(layout.windows):
            put_window(landmarks, layout, window, blocks[f"l1:{window}"])
        self._landmarks.keep(manifest, landmarks)
        ledger.encoded_tokens += layout.tokens
        return RecalledDocument(manifest, layout, landmarks, blocks)

    def _load_landmarks(self, manifest: Manifest, layout: Layout, ledger: Ledger) -> Landmarks:
        names = {window: f"l1:{window}" for window in range(layout.windows)}
        landmarks = self._room(layout)
        sound, damaged = self._read(
            manifest,
            names,
            ledger,
            lambda window, block: put_window(landmarks, layout, window, block),
        )
        if damaged:
            read = self._read_again(manifest, layout, damaged, sound, ledger)
            for window, cache in read.items():
                put_window(landmarks, layout, window, cache.l1)
        return landmarks

    def _room(self, layout: Layout) -> Landmarks:
        """Make memory for the landmarks of every segment, each of its own, so that it goes whole.

        A GPU fetches what lies together without the host's help.
        """
        spans = [layout.segment_intervals(segment) for segment in range(layout.segments)]
        return tuple(self._reader.landmark_room(len(span)) for span in spans)

    def _mend(
        self, document: RecalledDocument, windows: set[int], ledger: Ledger
    ) -> dict[int, WindowCache]:
        if not windows:
            return {}
        layout = document.layout
        sound = {w: window_of(document.landmarks, layout, w) for w in range(layout.windows)}
        return self._read_again(document.manifest, layout, windows, sound, ledger)

    def _read_again(
        self,
        manifest: Manifest,
        layout: Layout,
        windows: Iterable[int],
        landmarks: dict[int, KVBlock],
        ledger: Ledger,
    ) -> dict[int, WindowCache]:
        """Read damaged windows from the manifest's text, and put them back into the store."""
        wanted = sorted(windows)
        if self._reader.method(manifest.tokens) == "exact":
            # Its windows see the raw tokens before them, which may be damaged too.
            wanted = list(range(wanted[-1] + 1))
        read = dict(self._ingestion.mend(manifest, wanted, landmarks.get))
        ledger.recomputed_tokens += sum(len(layout.window_tokens_of(w)) for w in wanted)
        try:
            self._put_back(manifest, read)
        except StoreError as error:
            _LOG.warning(
                "what was read again of document %r could not be put back, and will be read again "
                "by the next question: %s",
                manifest.document_id,
                error,
            )
        return read

    def _put_back(self, manifest: Manifest, read: dict[int, WindowCache]) -> None:
        # A question does not wait for whoever is writing: what they write is sound.
        with self._archive.writer(manifest.document_id, manifest.version, wait=False) as writer:
            published = self._archive.load_manifest(manifest.document_id)
            if published is None or published.version != manifest.version:
                return  # deleted or replaced meanwhile: nothing to mend
            for window, cache in read.items():
                for name, block in self._ingestion.blocks(manifest, window, cache).items():
                    writer.write_block(name, block)

    def _read(
        self,
        manifest: Manifest,
        names: dict[int, str],
        ledger: Ledger,
        compute: Callable[[int, StoredBlock], Computed],
    ) -> tuple[dict[int, Computed], set[int]]:
        """Read blocks, and compute with each while the next ones come.

        Those that cannot be trusted are named, or raised by policy.
        """
        found: dict[int, Computed] = {}
        errors: list[StoreError] = []
        with closing(ledger.archive.read_blocks(manifest, list(names.values()))) as blocks:
            for number in names:
                try:
                    found[number] = compute(number, ledger.wait(blocks))
                except StoreError as error:
                    self._check_current(manifest, error)
                    if self._reader.config.on_damage == "raise":
                        raise
                    errors.append(error)
                    if not isinstance(error, DamagedCacheError):
                        break  # an outage: every further read would wait for its own time-out
        if errors:
            _warn(manifest, errors, of=len(names))
        return found, set(names) - set(found)

    def _check_current(self, manifest: Manifest, error: StoreError) -> None:
        """Tell a value that is lost from one of a version that was replaced meanwhile."""
        if not isinstance(error, DamagedCacheError) or error.reason != "missing":
            return
        try:
            current = self._archive.load_manifest(manifest.document_id)
        except StoreError:
            return  # no telling: it counts as lost
        if current is None or current.version != manifest.version:
            raise DocumentReplacedError(
                f"document {manifest.document_id!r} was replaced or deleted while it was asked; "
                "expected it to stay: ask again"
            ) from error


def _warn(manifest: Manifest, errors: Sequence[StoreError], *, of: int) -> None:
    """Say once what is wrong with the values of a document, and what is done about it."""
    first = errors[0]
    if isinstance(first, DamagedCacheError):
        _LOG.warning(
            "%d of %d values of document %r that a question needs are missing or damaged (%s); "
            "reading their tokens again from its text",
            len(errors),
            of,
            manifest.document_id,
            first.fact,
        )
    else:
        _LOG.warning(
            "values of document %r that a question needs cannot be had (%s); reading their tokens "
            "again from its text",
            manifest.document_id,
            first,
        )
