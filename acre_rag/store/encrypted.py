"""Any store, encrypted: whoever reads the disk or the server learns sizes and models, no text.

Values and manifests are encrypted, each for its place. Ids of documents and versions, which are
digests of what might be guessed, are replaced by digests that need the key.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial

from acre_rag.errors import DamagedCacheError, StoreError
from acre_rag.store.address import check_hex, document_digest
from acre_rag.store.damage import or_damage
from acre_rag.store.frame import Label
from acre_rag.store.key import OVERHEAD_BYTES, StoreKey
from acre_rag.store.key_mark import KEY_SPACE, KeyMark
from acre_rag.store.protocol import ByteRun, CacheStore, DocumentWriter

_MANIFEST = "manifest"
_DIGEST_BYTES = 40


class EncryptedStore:
    """Keeps caches encrypted in another store.

    Spaces, the names and sizes of values, and the number of documents stay visible. Who can write
    to the store may delete documents, or put back an older state of one; any other change is
    found out.

    Args:
        store: Where the encrypted bytes are kept; it is closed with this one.
        key: What they are encrypted with.

    Attributes:
        url: That of the store within.
    """

    def __init__(self, store: CacheStore, key: StoreKey) -> None:
        self._store = store
        self._key = key
        self._mark = KeyMark(store, key, self._opens)
        self.url = store.url

    def __repr__(self) -> str:
        return f"EncryptedStore({self._store!r})"

    def load_manifest(self, space: str, document_id: str) -> bytes | None:
        """Read what was published of a document; `None` when nothing is."""
        self._mark.check()
        hidden = self._hidden(document_id)
        with _named(hidden, document_id):
            data = self._store.load_manifest(space, hidden)
        return None if data is None else self._opened(space, document_digest(hidden), data)[1]

    def read(self, space: str, document_id: str, version: str, name: str) -> memoryview:
        """Read a value, and decrypt it."""
        self._mark.check()
        place = self._place(space, document_id, version)
        with _named(place.hidden, document_id):
            data = self._store.read(space, place.hidden, place.version, name)
        return place.decrypt(name, data)

    def read_each(
        self, space: str, document_id: str, version: str, names: Sequence[str]
    ) -> Generator[memoryview | DamagedCacheError, None, None]:
        """Read values one after the other, and decrypt them."""
        self._mark.check()
        place = self._place(space, document_id, version)
        values = self._store.read_each(space, place.hidden, place.version, names)
        with _named(place.hidden, document_id), closing(values):
            for name, value in zip(names, values, strict=True):
                if isinstance(value, DamagedCacheError):
                    yield _known(value, place.hidden, document_id)
                else:
                    yield or_damage(partial(place.decrypt, name, value))

    @contextmanager
    def writer(
        self, space: str, document_id: str, version: str, *, wait: bool = True
    ) -> Iterator[DocumentWriter]:
        """Lock a document for writing, until the context ends."""
        self._mark.keep()
        place = self._place(space, document_id, version)
        with (
            _named(place.hidden, document_id),
            self._store.writer(space, place.hidden, place.version, wait=wait) as writer,
        ):
            yield _EncryptedWriter(writer, place)

    def delete(self, space: str, document_id: str) -> bool:
        """Remove a document with all its values, staged ones too; was it published?"""
        self._mark.check()
        hidden = self._hidden(document_id)
        with _named(hidden, document_id):
            return self._store.delete(space, hidden)

    def pin(self, space: str, document_id: str, *, pinned: bool = True) -> bool:
        """Keep a document for good, neither expired nor evicted, or no longer; is it there?"""
        self._mark.check()
        hidden = self._hidden(document_id)
        with _named(hidden, document_id):
            return self._store.pin(space, hidden, pinned=pinned)

    def manifests(self, space: str) -> Iterator[tuple[str, bytes]]:
        """Go through what is published in a space: digests of the document ids, and manifests."""
        self._mark.check()
        for digest, data in self._store.manifests(space):
            yield self._opened(space, digest, data)

    def spaces(self) -> list[str]:
        """List the spaces that hold a published document, in order."""
        self._mark.check()
        return [space for space in self._store.spaces() if space != KEY_SPACE]

    def close(self) -> None:
        """Close the store within."""
        self._store.close()

    def _hidden(self, document_id: str) -> str:
        """Hide an id, in the words of its digest: no two that differ are the same."""
        return self._key.hidden("document", document_digest(document_id))

    def _place(self, space: str, document_id: str, version: str) -> "_Place":
        check_hex("version", version)
        return _Place(
            key=self._key,
            space=space,
            document_id=document_id,
            hidden=self._hidden(document_id),
            version=self._key.hidden("version", version),
        )

    def _opened(self, space: str, digest: str, data: bytes) -> tuple[str, bytes]:
        """Decrypt a manifest, and the digest of the id as it is; nothing is left of a damaged one.

        Its place is named by the digest of the hidden id, which is all that a listing knows.
        """
        try:
            plain = self._key.decrypt(data, f"{space}/{digest}", Label(None, _MANIFEST, digest))
        except DamagedCacheError:
            return digest, b""
        return str(plain[:_DIGEST_BYTES], "ascii"), bytes(plain[_DIGEST_BYTES:])

    def _opens(self, space: str, digest: str, data: bytes) -> bool:
        return bool(self._opened(space, digest, data)[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where the values of one version of one document are, in hidden names.

    Attributes:
        key: Encrypts and decrypts.
        space: The space, as it is.
        document_id: The document, as users know it.
        hidden: Its id in the store within.
        version: Its version in the store within.
    """

    key: StoreKey
    space: str
    document_id: str
    hidden: str
    version: str

    def encrypt(self, name: str, runs: Sequence[ByteRun]) -> list[ByteRun]:
        return self.key.encrypt(runs, self._bound(name), Label(self.document_id, name))

    def decrypt(self, name: str, data: memoryview) -> memoryview:
        return self.key.decrypt(data, self._bound(name), Label(self.document_id, name))

    def encrypt_manifest(self, manifest: bytes) -> bytes:
        label = Label(self.document_id, _MANIFEST)
        real = document_digest(self.document_id).encode()
        place = f"{self.space}/{document_digest(self.hidden)}"
        return b"".join(self.key.encrypt([real, manifest], place, label))

    def _bound(self, name: str) -> str:
        return f"{self.space}/{document_digest(self.hidden)}/{self.version}/{name}"


class _EncryptedWriter:
    """Encrypts what it hands on to the writer within."""

    def __init__(self, writer: DocumentWriter, place: _Place) -> None:
        self._writer = writer
        self._place = place

    def staged(self) -> Mapping[str, int]:
        """Name the values that this version has already, with the bytes that each has now."""
        sizes = self._writer.staged()
        return {name: max(0, size - OVERHEAD_BYTES) for name, size in sizes.items()}

    def read(self, name: str) -> memoryview:
        """Read back a value of this version."""
        return self._place.decrypt(name, self._writer.read(name))

    def write(self, name: str, runs: Sequence[ByteRun]) -> None:
        """Write a value whole, or not at all; one of that name is replaced in one step."""
        self._writer.write(name, self._place.encrypt(name, runs))

    def publish(self, manifest: bytes) -> None:
        """Show this version to readers in one step, and remove the version it replaces."""
        self._writer.publish(self._place.encrypt_manifest(manifest))


@contextmanager
def _named(hidden: str, document_id: str) -> Iterator[None]:
    """Let errors name a document as users know it.

    Raises:
        StoreError: What the store within raised.
    """
    try:
        yield
    except DamagedCacheError as error:
        raise _known(error, hidden, document_id) from error
    except StoreError as error:
        raise StoreError(str(error).replace(repr(hidden), repr(document_id))) from error


def _known(error: DamagedCacheError, hidden: str, document_id: str) -> DamagedCacheError:
    """Name a document in an error as users know it."""
    words = str(error).replace(repr(hidden), repr(document_id))
    fact = error.fact.replace(repr(hidden), repr(document_id))
    remedy = words.removeprefix(f"{fact}; ")
    return DamagedCacheError(fact, remedy, reason=error.reason, value=error.value)
