"""What a process knows of stored documents: landmarks, and manifests for when a store is away."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from acre_rag.cache import KVBlock
from acre_rag.store.manifest import Manifest
from acre_rag.text.document import is_passage

_CHARACTERS = 2**26
Landmarks = tuple[KVBlock, ...]
"""L1 of each segment of a document."""


class KnownDocuments:
    """Manifests that were written or read last, their texts with them, within a limit.

    They answer questions while the store cannot be reached. What a listing of the store has found
    is remembered with them: `all` is never less than what was there.
    """

    def __init__(self, limit_characters: int = _CHARACTERS) -> None:
        self._limit = limit_characters
        self._manifests: OrderedDict[str, Manifest] = OrderedDict()
        self._characters = 0
        self._listed: dict[str, None] | None = None
        self._lock = threading.Lock()

    def keep(self, manifest: Manifest) -> None:
        """Remember a document as it is now."""
        with self._lock:
            self._keep(manifest)
            if self._listed is not None and not is_passage(manifest.document_id):
                self._listed[manifest.document_id] = None

    def keep_all(self, manifests: Iterable[Manifest]) -> None:
        """Remember all documents that the store lists."""
        with self._lock:
            self._listed = {}
            for manifest in manifests:
                self._keep(manifest)
                self._listed[manifest.document_id] = None

    def drop(self, document_id: str) -> None:
        """Let go of a document that is no longer stored."""
        with self._lock:
            self._forget(document_id)
            if self._listed is not None:
                self._listed.pop(document_id, None)

    def find(self, ids: Sequence[str] | None) -> list[Manifest] | None:
        """Give documents, or all that were listed; `None` where one of them is not known."""
        with self._lock:
            wanted = self._listed if ids is None else dict.fromkeys(ids)
            if not wanted or not self._manifests.keys() >= wanted.keys():
                return None
            return [self._manifests[document_id] for document_id in wanted]

    def _keep(self, manifest: Manifest) -> None:
        self._forget(manifest.document_id)
        self._manifests[manifest.document_id] = manifest
        self._characters += len(manifest.text)
        while self._characters > self._limit:
            self._forget(next(iter(self._manifests)))

    def _forget(self, document_id: str) -> None:
        manifest = self._manifests.pop(document_id, None)
        if manifest is not None:
            self._characters -= len(manifest.text)


class LandmarkCache:
    """Landmarks of the documents asked last, of one version each, within a limit of bytes."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._kept: OrderedDict[str, tuple[str, Landmarks]] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, manifest: Manifest) -> Landmarks | None:
        """Give the landmarks of a document, if they are of this version."""
        with self._lock:
            version, landmarks = self._kept.get(manifest.document_id, ("", None))
            if version != manifest.version:
                return None
            self._kept.move_to_end(manifest.document_id)
            return landmarks

    def keep(self, manifest: Manifest, landmarks: Landmarks) -> None:
        """Remember landmarks, in place of those of another version."""
        with self._lock:
            self._kept[manifest.document_id] = (manifest.version, landmarks)
            self._kept.move_to_end(manifest.document_id)
            while len(self._kept) > 1 and self._bytes() > self._limit:
                self._kept.popitem(last=False)

    def drop(self, document_id: str) -> None:
        """Let go of a document."""
        with self._lock:
            self._kept.pop(document_id, None)

    def _bytes(self) -> int:
        blocks = (block for _, landmarks in self._kept.values() for block in landmarks)
        return sum(2 * block.keys.nbytes for block in blocks)
