"""What tells that a store is encrypted, and with which key: one small document of its own space.

With it a wrong key differs from an empty store, and keyless writers learn to keep out.
"""

from collections.abc import Callable

from acre_rag.errors import DamagedCacheError, StoreError
from acre_rag.store.frame import ENCRYPTED, MANIFEST, Label
from acre_rag.store.key import StoreKey
from acre_rag.store.protocol import CacheStore

KEY_SPACE = b"acre key".hex()
_PLACE = (KEY_SPACE, "key", KEY_SPACE)
_LABEL = Label("key", "manifest")


class KeyMark:
    """Holds a key to the mark of a store.

    Args:
        store: Where the mark is kept, as it is.
        key: What the store is to be encrypted with.
        opens: Tells whether the key opens a manifest: of its space, digest and bytes.
    """

    def __init__(
        self, store: CacheStore, key: StoreKey, opens: Callable[[str, str, bytes], bool]
    ) -> None:
        self._store = store
        self._key = key
        self._opens = opens
        self._checked = False
        self._kept = False

    def check(self) -> bool:
        """Hold the key to the mark, once; is there anything yet that it could be held to?

        Raises:
            StoreError: The store was encrypted with another key.
        """
        if self._checked:
            return True
        space, document_id, _ = _PLACE
        mark = self._store.load_manifest(space, document_id)
        if mark is None:
            return False
        try:
            self._key.decrypt(mark, space, _LABEL)
        except DamagedCacheError as error:
            raise StoreError(
                f"found a key that does not open {self._store.url}; expected the one that it was "
                f"encrypted with: pass that key (nothing was changed)"
            ) from error
        self._checked = True
        return True

    def keep(self) -> None:
        """See to it, once, that the store is marked with this key, and stays so.

        Raises:
            StoreError: It was encrypted with another key, or has documents that are in plain.
        """
        if self._kept:
            return
        if not self.check():
            self._lay_down()
        # Without its mark the store would be taken for one in plain.
        space, document_id, _ = _PLACE
        self._store.pin(space, document_id)
        self._kept = True

    def _lay_down(self) -> None:
        """Mark a store without documents as encrypted with this key.

        Raises:
            StoreError: It has documents that this key does not open.
        """
        with self._store.writer(*_PLACE) as writer:
            if self.check():
                return  # somebody else was faster, with the same key
            self._check_documents()
            writer.publish(b"".join(self._key.encrypt([b"acre"], KEY_SPACE, _LABEL)))

    def _check_documents(self) -> None:
        """Refuse a store without a mark, unless it is empty, or this key's whose mark was lost.

        One document that the key opens will do, others may be damaged; one in plain will not.

        Raises:
            StoreError: It has documents that were stored without this key.
        """
        empty, opened = True, False
        for space in self._store.spaces():
            for digest, data in self._store.manifests(space):
                empty = False
                opened = opened or self._opens(space, digest, data)
                if not data.startswith(ENCRYPTED):
                    raise self._stored_otherwise()
        if not empty and not opened:
            raise self._stored_otherwise()

    def _stored_otherwise(self) -> StoreError:
        return StoreError(
            f"{self._store.url} holds documents that were stored without this key; expected an "
            "empty store: name another one, and bring them with acre stores copy"
        )


def refuse_encrypted(store: CacheStore) -> None:
    """Keep plain text out of a store that is encrypted.

    Raises:
        StoreError: The store is encrypted, and was opened without its key.
    """
    space, document_id, _ = _PLACE
    if store.load_manifest(space, document_id) is not None:
        raise _encrypted(store)


def refuse_encrypted_documents(store: CacheStore) -> None:
    """Keep plain text out of a store whose documents are encrypted, where the mark was evicted.

    The first document of each space that is whole enough tells: reading every manifest would take
    too long, and what is encrypted takes nothing in plain to begin with.

    Raises:
        StoreError: They are, and the store was opened without its key.
    """
    for space in store.spaces():
        for _, manifest in store.manifests(space):
            if manifest.startswith(ENCRYPTED):
                raise _encrypted(store)
            if manifest.startswith(MANIFEST):
                break


def _encrypted(store: CacheStore) -> StoreError:
    return StoreError(
        f"{store.url} is encrypted; expected its key: put it into ACRE_STORE_KEY, or name a "
        "file with --key-file (where a store is copied to, with --to-key-file)"
    )
