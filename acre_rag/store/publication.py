"""What is published of a document, in one value: a line that names the version, and the manifest.

The line holds the version, a space, the xxh3_64 of the version in hexadecimal, and a line break:
a store needs to know which values it must keep, and a manifest is none of its business.
"""

import re

import xxhash

MAX_LINE_BYTES = 128 + 1 + 16 + 1

_LINE = re.compile(rb"([0-9a-f]{8,128}) ([0-9a-f]{16})\n")


def join_publication(version: str, manifest: bytes) -> list[bytes]:
    """Put the version's line in front of a manifest."""
    name = version.encode()
    return [b"%b %b\n" % (name, _checksum(name)), manifest]


def published_version(data: bytes) -> str | None:
    """Read the version's line; `None` where it is damaged."""
    match = _LINE.match(data)
    if match is None or _checksum(match[1]) != match[2]:
        return None
    return match[1].decode()


def published_manifest(data: bytes) -> bytes:
    """Cut the version's line off; nothing is left where it is damaged."""
    return b"" if published_version(data) is None else data[data.index(b"\n") + 1 :]


def _checksum(version: bytes) -> bytes:
    return xxhash.xxh3_64_hexdigest(version).encode()
