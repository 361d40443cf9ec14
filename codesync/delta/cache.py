"""What a tree's last scan has learnt, kept on disk for the next process.

On disk: MAGIC, XXH3-128 of all that follows, the tree_id, six lengths of 8 bytes (of the next two columns in items,
of the rest in bytes), and then: identities of levels (16 bytes each), names of what git tracks behind their sources (16
and 48 bytes), the manifest's columns as in its packed form but not compressed, and the columns of the looks, numbers
little-endian. A file that is anything else is an empty cache: it is nobody's but the user's own, and so it is looked at
for damage, not for malice. It is replaced as a whole, and only when that pays.
"""

from __future__ import annotations

import os
import struct
from array import array
from contextlib import suppress
from typing import TYPE_CHECKING

from xxhash import xxh3_128_digest

from codesync.delta.errors import ManifestError

if TYPE_CHECKING:
    from codesync.delta.manifest.memory import Past

MAGIC = b"codesync cache 2\n"
# Writing the cache costs about as much as reading this share of its files again, or so many bytes.
_UNSAVED_SHARE = 32
_UNSAVED_FILES = 16
_UNSAVED_BYTES = 4 * 1024 * 1024
_HEAD = struct.Struct("<32s3Q")
_IDENTITY, _SOURCE = 16, 48


class ManifestCache:
    """What one tree's scans have learnt, kept in the file `path`. Missing or damaged: empty. Not for two threads."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._past: Past | None = None
        self._saved: Past | None = None
        self._unsaved_files = 0
        self._unsaved_bytes = 0

    def load(self) -> Past | None:
        """Return what the last scan left; None where there was none."""
        if self._past is None:
            self._past = self._saved = _load(self.path)
        return self._past

    def keep(self, past: Past, read: tuple[int, int] = (0, 0), *, lasting: bool = False) -> None:
        """End a scan that has read so many files and bytes; the file is rewritten if that pays.

        It does if the next process wins more by it than the writing costs now. `lasting`: this one will do more scans.
        A cache that cannot be written is no error: the next scan is slow, that is all.
        """
        self._past = past
        self._unsaved_files += read[0]
        self._unsaved_bytes += read[1]
        if past is not self._saved and not self._can_wait(past, lasting=lasting):
            self._saved = past
            self._unsaved_files, self._unsaved_bytes = 0, 0
            with suppress(OSError):
                _write(self.path, _pack(past))

    def _can_wait(self, past: Past, *, lasting: bool) -> bool:
        saved = self._saved
        if not lasting and (saved is None or _is_otherwise(saved, past)):
            return False
        few = max(_UNSAVED_FILES, len(past.manifest) // _UNSAVED_SHARE)
        return self._unsaved_files <= few and self._unsaved_bytes <= _UNSAVED_BYTES


def _is_otherwise(saved: Past, past: Past) -> bool:
    """Whether what a scan would have to find out again is more than the content of a few files."""
    return (
        saved.manifest.paths != past.manifest.paths
        or saved.indexes != past.indexes
        or saved.special != past.special
    )


def _load(path: str) -> Past | None:
    try:
        with open(path, "rb", buffering=0) as file:
            return _unpack(file.readall())
    except (OSError, ValueError, struct.error, ManifestError):
        return None


def _pack(past: Past) -> bytes:
    from codesync.delta.manifest.packed import join, number_bytes

    manifest = join(past.manifest.columns, past.manifest.skipped)
    indexes = b"".join(source + name for source, name in past.indexes.items())
    body = b"".join(
        [
            _HEAD.pack(
                bytes.fromhex(past.manifest.tree_id), len(past.levels), len(past.indexes), len(manifest)
            ),
            *past.levels[1:],
            indexes,
            manifest,
            *map(number_bytes, past.looks),
        ]
    )
    return MAGIC + xxh3_128_digest(body) + body


def _unpack(data: bytes) -> Past:
    """ValueError, struct.error, ManifestError where it is no cache of this version, whole and undamaged."""
    from codesync.delta.manifest.looks import TYPES, Looks
    from codesync.delta.manifest.memory import Past
    from codesync.delta.manifest.packed import numbers, split
    from codesync.delta.manifest.tree import Manifest

    at = len(MAGIC) + 16
    if data[: len(MAGIC)] != MAGIC or xxh3_128_digest(memoryview(data)[at:]) != data[len(MAGIC) : at]:
        raise ValueError("not a cache")
    tree_id, levels, indexes, length = _HEAD.unpack_from(data, at)
    at += _HEAD.size
    if at + _IDENTITY * (levels - 1) + (_SOURCE + _IDENTITY) * indexes + length > len(data):
        raise ValueError("lengths that cannot be")

    def take(length: int) -> bytes:
        nonlocal at
        at += length
        return data[at - length : at]

    known = tuple(take(_IDENTITY) for _ in range(levels - 1))
    tracked = {take(_SOURCE): take(_IDENTITY) for _ in range(indexes)}
    packed = split(take(length), check=False)
    manifest = Manifest.of_columns(
        packed.columns._replace(paths=tuple(packed.paths.split(b"\0")) if packed.paths else ()),
        packed.skipped,
    )
    manifest.tree_id = tree_id.hex()
    rows = len(manifest) + 1
    looks = Looks._make(numbers(typecode, take(array(typecode).itemsize * rows)) for typecode in TYPES)
    if not levels or at != len(data):
        raise ValueError("lengths that contradict each other")
    return Past(manifest, looks, (b"", *known), tracked)


def _write(path: str, data: bytes) -> None:
    """Replace the file in one step. It is not synced: what a crash leaves of it is whole, or damaged and so empty."""
    directory = os.path.dirname(path) or "."
    os.makedirs(directory, mode=0o700, exist_ok=True)
    name = os.path.join(directory, f".codesync-cache-{os.urandom(8).hex()}")
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
        os.replace(name, path)
    except BaseException:  # also an interrupt must leave no draft behind
        with suppress(OSError):
            os.unlink(name)
        raise
