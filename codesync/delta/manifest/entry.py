"""One path of a tree, what may stand there, and the digests that name a whole tree or a set of paths.

This file knows no disk. `check_entry` holds for every entry that came from outside.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple

from codesync.delta.errors import ManifestError

MAX_PATH = 64 * 1024  # bytes; a symlink's target is held to it too
_TREE_PREFIX = b"codesync tree 1\n"
_TRACKED_PREFIX = b"codesync tracked 1\n"
_UNSAFE = re.compile(rb"(?:\A|/)\.{0,2}(?:/|\Z)|\0")

by_path = attrgetter("path")


class Kind(StrEnum):
    """What stands at a path; the value is the letter on the wire."""

    FILE = "f"
    DIRECTORY = "d"
    SYMLINK = "l"


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of a tree. `mode`: permission bits, 0..0o777. `mtime_ns`: since the epoch, may be negative.

    `size` in bytes and `digest` (SHA-256, 32 bytes) are a file's, `target` is a symlink's; elsewhere 0 and b"".
    """

    path: bytes
    kind: Kind
    mode: int
    mtime_ns: int
    size: int = 0
    digest: bytes = b""
    target: bytes = b""


class Skipped(NamedTuple):
    """A path that a scan left out, and why: "fifo", "socket", "device", "unreadable: …", "changing: …"."""

    path: bytes
    reason: str


def tree_id(entries: Iterable[Entry]) -> str:
    """Hex SHA-256 over the entries in path order: kind, executable bit, path, digest or link target.

    As in git neither mtimes nor other mode bits count. Each entry gives one letter (d directory, f file, x file
    whose owner may execute it, l symlink), then the path and, of a link, the target, both behind their length in
    4 bytes, big-endian; of a file the digest follows.
    """
    return records_id(map(record, sorted(entries, key=by_path)))


def record(entry: Entry) -> bytes:
    """What a tree_id is made of, for one entry: the same bytes mean the same path, kind, executable bit and content."""
    path, kind = entry.path, entry.kind
    length = len(path).to_bytes(4, "big")
    if kind is Kind.FILE:
        return (b"x" if entry.mode & 0o100 else b"f") + length + path + entry.digest
    if kind is Kind.DIRECTORY:
        return b"d" + length + path
    return b"l" + length + path + len(entry.target).to_bytes(4, "big") + entry.target


def records_id(records: Iterable[bytes]) -> str:
    """The tree_id of entries with these records, which are in path order."""
    return hashlib.sha256(_TREE_PREFIX + b"".join(records)).hexdigest()


def tracked_id(paths: Iterable[bytes]) -> str:
    """Hex SHA-256 over a set of paths: sorted, each behind its length in 4 bytes, big-endian."""
    return _tracked_id(paths if isinstance(paths, frozenset) else frozenset(paths))


@lru_cache(maxsize=4)  # a push asks several times for the same one or two sets
def _tracked_id(paths: frozenset[bytes]) -> str:
    parts = [_TRACKED_PREFIX]
    for path in sorted(paths):
        parts += (len(path).to_bytes(4, "big"), path)
    return hashlib.sha256(b"".join(parts)).hexdigest()


def check_path(path: bytes) -> None:
    """Raise ManifestError unless `path` is relative, not too long, and cannot leave its root."""
    if not isinstance(path, bytes):
        raise ManifestError(f"a path must be bytes, not {type(path).__name__}")
    if len(path) > MAX_PATH or _UNSAFE.search(path):
        raise ManifestError("a path must be relative, without NUL, empty, '.' or '..' components", path)


def check_entry(entry: Entry) -> None:
    """Raise ManifestError unless every field has its type and fits the entry's kind."""
    path, kind, digest, target = entry.path, entry.kind, entry.digest, entry.target
    check_path(path)
    if type(kind) is not Kind or type(digest) is not bytes or type(target) is not bytes:
        raise ManifestError("kind, digest or target is of a wrong type", path)
    if not (
        _is_within(entry.mode, 0, 0o777)
        and _is_within(entry.mtime_ns, -(2**63))
        and _is_within(entry.size, 0)
    ):
        raise ManifestError("mode, mtime or size is out of range", path)
    if len(digest) != (32 if kind is Kind.FILE else 0) or (entry.size and kind is not Kind.FILE):
        raise ManifestError("a file, and only a file, has a size and a SHA-256 digest", path)
    if bool(target) != (kind is Kind.SYMLINK) or len(target) > MAX_PATH or b"\0" in target:
        raise ManifestError("a symlink, and only a symlink, has a target, and that holds no NUL", path)


def _is_within(number: object, lowest: int, highest: int = 2**63 - 1) -> bool:
    return type(number) is int and lowest <= number <= highest


def check_skipped(skipped: Skipped) -> None:
    """Raise ManifestError unless both fields are what they should be."""
    check_path(skipped.path)
    if not isinstance(skipped.reason, str):
        raise ManifestError("the reason for leaving a path out must be text", skipped.path)
