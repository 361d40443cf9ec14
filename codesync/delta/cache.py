"""The digests of files that have not changed since they were last read.

A digest counts only while size, mtime, ctime and inode are what they were. As with git's index that is not enough for
a file touched just before it was read: a later write might leave the same times. So a digest is kept only if both
times were safely older than the moment of reading; else the file is read again next time.

On disk: MAGIC, SHA-256 of all that follows, the number of entries (8 bytes, little-endian), four columns of 64-bit
numbers (sizes, mtimes, ctimes, inodes), the digests, the paths joined by NUL. A file that is anything else is an empty
cache. It is replaced as a whole, and only when something has changed; by who scans often, only when that pays.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from array import array
from contextlib import suppress

MAGIC = b"codesync cache 1\n"
# A filesystem's clock ticks at most this far apart: it stores nanoseconds and Linux, say, moves them on every 10 ms …
_FINE = 100_000_000
# … unless all its times are multiples of 10 ms: then it stores whole seconds, or every other one as FAT does.
_COARSE = 2_500_000_000
# Writing the cache costs about as much as reading this share of its files again, or so many bytes.
_UNSAVED_SHARE = 32
_UNSAVED_FILES = 16
_UNSAVED_BYTES = 4 * 1024 * 1024
_Stamp = tuple[int, int, int, int]


def is_settled(status: os.stat_result, moment_ns: int) -> bool:
    """Whether whatever is done to a file from `moment_ns` (wall clock) on must leave other times than `status` has."""
    times = status.st_mtime_ns, status.st_ctime_ns
    fine = all(time % 10_000_000 for time in times)
    return max(times) < moment_ns - (_FINE if fine else _COARSE)


class ManifestCache:
    """What one tree's scans have learnt, kept in the file `path`. Missing or damaged: empty. Not for two threads."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._known = _load(path)
        self._next: dict[bytes, tuple[_Stamp, bytes]] = {}
        self._changed = False
        self._unsaved_files = 0
        self._unsaved_bytes = 0

    def carry_over(self) -> None:
        """Begin a scan that asks only about what may have changed: all that is known is kept but what it forgets."""
        self._next = self._known.copy()

    def forget(self, path: bytes) -> None:
        """Drop what is known of a path that is gone."""
        self._next.pop(path, None)

    def lookup(self, path: bytes, status: os.stat_result) -> bytes | None:
        """Return the digest of the file at `path`, if its lstat still vouches for it. Such an entry is kept by `save`."""
        known = self._known.get(path)
        if known is None or known[0] != (
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
            status.st_ino,
        ):
            self._next.pop(path, None)
            return None
        self._next[path] = known
        return known[1]

    def store(self, path: bytes, status: os.stat_result, digest: bytes, moment_ns: int) -> None:
        """Remember a digest. `status` was the same before and after the reading that began at `moment_ns` (wall clock)."""
        if is_settled(status, moment_ns):
            stamp = status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
            self._next[path] = stamp, digest
            self._changed = True
            self._unsaved_files += 1
            self._unsaved_bytes += status.st_size

    def save(self, *, lazily: bool = False) -> None:
        """End a scan: what it has neither found nor stored is forgotten, the file is rewritten if anything changed.

        `lazily`: only if enough has changed for the next process to win more by it than the writing costs now.
        A cache that cannot be written is no error: the next scan is slow, that is all.
        """
        self._changed |= len(self._next) != len(self._known)
        self._known, self._next = self._next, {}
        if self._changed and not (lazily and self._can_wait()):
            self._changed, self._unsaved_files, self._unsaved_bytes = False, 0, 0
            with suppress(OSError):
                _write(self.path, _pack(self._known))

    def _can_wait(self) -> bool:
        few = max(_UNSAVED_FILES, len(self._known) // _UNSAVED_SHARE)
        return self._unsaved_files <= few and self._unsaved_bytes <= _UNSAVED_BYTES


def _load(path: str) -> dict[bytes, tuple[_Stamp, bytes]]:
    try:
        with open(path, "rb") as file:
            return _unpack(file.read())
    except (OSError, ValueError):
        return {}


def _pack(known: dict[bytes, tuple[_Stamp, bytes]]) -> bytes:
    columns = [
        array("Q" if column == 3 else "q", [stamp[column] for stamp, _ in known.values()])
        for column in range(4)
    ]
    if sys.byteorder == "big":
        for column in columns:
            column.byteswap()
    body = b"".join(
        [
            len(known).to_bytes(8, "little"),
            *(column.tobytes() for column in columns),
            *(digest for _, digest in known.values()),
            b"\0".join(known),
        ]
    )
    return MAGIC + hashlib.sha256(body).digest() + body


def _unpack(data: bytes) -> dict[bytes, tuple[_Stamp, bytes]]:
    """ValueError where it is no cache of this version, whole and undamaged."""
    start = len(MAGIC) + 32
    if not data.startswith(MAGIC) or hashlib.sha256(data[start:]).digest() != data[len(MAGIC) : start]:
        raise ValueError("not a cache")
    count = int.from_bytes(data[start : start + 8], "little")
    at = start + 8
    columns = []
    for column in range(4):
        numbers = array("Q" if column == 3 else "q", data[at : at + 8 * count])
        if sys.byteorder == "big":
            numbers.byteswap()
        columns.append(numbers.tolist())
        at += 8 * count
    digests = [data[i : i + 32] for i in range(at, at + 32 * count, 32)]
    paths = data[at + 32 * count :].split(b"\0") if count else []
    return dict(zip(paths, zip(zip(*columns, strict=True), digests, strict=True), strict=True))


def _write(path: str, data: bytes) -> None:
    """Replace the file in one step; a crash leaves the old one or the new one."""
    directory = os.path.dirname(path) or "."
    os.makedirs(directory, mode=0o700, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=directory, prefix=".codesync-cache-")
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(name, path)
    except BaseException:  # also an interrupt must leave no draft behind
        with suppress(OSError):
            os.unlink(name)
        raise
