"""Constants of this machine: in memory, kept on disk, or measured now."""

import logging
import platform
import threading
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch

from acre_rag.cost import KeptSpeeds, ModelSpeeds, StoreSpeeds
from acre_rag.engine.measure_model import measure_model
from acre_rag.engine.measure_store import measure_store
from acre_rag.model.location import cache_directory
from acre_rag.model.reader import DocumentReader
from acre_rag.store.archive import CacheArchive
from acre_rag.store.manifest import Manifest

_LOG = logging.getLogger("acre_rag")


class MeasuredSpeeds:
    """What one engine's model and store cost on this machine.

    Args:
        reader: Model, adapter and settings.
        archive: Where caches are.
    """

    def __init__(self, reader: DocumentReader, archive: CacheArchive) -> None:
        self._reader = reader
        self._archive = archive
        self._model: ModelSpeeds | None = None
        self._store: StoreSpeeds | None = None
        self._forgotten = False
        self._lock = threading.Lock()

    @property
    def machine(self) -> str:
        """Device, number type and threads, in words."""
        told = self._device()
        return f"{told['device']}, {told['dtype']}, threads {told['threads']}"

    def forget(self) -> None:
        """Measure anew when constants are next needed, whatever was kept."""
        with self._lock:
            self._model = self._store = None
            self._forgotten = True

    def model(self) -> ModelSpeeds:
        """Give what the model costs."""
        with self._lock:
            if self._model is None:
                self._model = self._model_anew()
            return self._model

    def store(self, manifests: Sequence[Manifest], size: int) -> StoreSpeeds:
        """Give what reading so many bytes of some documents costs.

        A store that cannot be read now costs nothing to read: what is missing is another matter.
        """
        kept = KeptSpeeds(_directory())
        told = self._device() | {"store": self._archive.store.url}
        with self._lock:
            if self._store is None and not self._forgotten:
                self._store = kept.load(StoreSpeeds, told)
            if self._store is None or not self._store.suffices(size):
                measured = measure_store(self._archive, manifests)
                if measured is None:
                    return StoreSpeeds(per_value=0.0, per_byte=0.0, sampled_bytes=0.0)
                self._store = measured
                kept.keep(measured, told)
            return self._store

    def _model_anew(self) -> ModelSpeeds:
        kept = KeptSpeeds(_directory())
        reader = self._reader
        told = self._device() | {
            "space": reader.identity.space,
            "selection": reader.config.selection,
            "context_tokens": reader.context_tokens,
        }
        found = None if self._forgotten else kept.load(ModelSpeeds, told)
        if found is None:
            _LOG.info("measuring what %s costs on this machine", reader.local.name)
            found = measure_model(reader)
            kept.keep(found, told)
        return found

    def _device(self) -> dict[str, object]:
        device = self._reader.local.device
        cuda = device.type == "cuda"
        return {
            "device": torch.cuda.get_device_name(device) if cuda else device.type,
            "dtype": str(self._reader.local.model.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "host": platform.node(),
            "torch": torch.__version__,
            "transformers": version("transformers"),
        }


def _directory() -> Path:
    return cache_directory() / "speeds"
