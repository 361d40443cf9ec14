"""One path of a tree, what may stand there, and the digests that name a whole tree or a set of paths.

This file knows no disk. `check_entry` holds for every entry that came from outside.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import NamedTuple

from codesync.delta.errors import ManifestError

MAX_PATH = 64 * 1024  # bytes; a symlink's target is held to it too
MAX_DEPTH = 2048  # components of a path: as many as one that the kernel takes at once may have
MAX_NUMBER = 2**63 - 1  # of nanoseconds or bytes
_TREE_PREFIX = b"codesync tree 1\n"
_TRACKED_PREFIX = b"codesync tracked 1\n"
_AT_ONCE = 4096  # entries, so that what is made of them is not as large as a tree
_CUT = 256  # pieces
_NO_NAMES = frozenset((b"", b".", b".."))

by_path = itemgetter(0)


class Kind(StrEnum):
    """What stands at a path; the value is the letter on the wire."""

    FILE = "f"
    DIRECTORY = "d"
    SYMLINK = "l"


class Entry(NamedTuple):
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
    rows = sorted(entries, key=by_path)
    letters = [b"x" if row.kind is Kind.FILE and row.mode & 0o100 else row.kind.encode() for row in rows]
    tails = [target_tail(row.target) if row.kind is Kind.SYMLINK else row.digest for row in rows]
    return id_of_columns(letters, [row.path for row in rows], tails)


def id_of_columns(letters: Sequence[bytes], paths: Sequence[bytes], tails: Sequence[bytes]) -> str:
    """The tree_id of entries in path order, given as columns: letters, paths, and what follows the path."""
    digest = hashlib.sha256(_TREE_PREFIX)
    for start in range(0, len(paths), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        columns = zip(letters[some], _lengths(paths[some]), paths[some], tails[some], strict=True)
        digest.update(b"".join(chain.from_iterable(columns)))
    return digest.hexdigest()


def target_tail(target: bytes) -> bytes:
    """What follows a symlink's path in a tree_id."""
    return len(target).to_bytes(4, "big") + target


def _lengths(paths: Sequence[bytes]) -> list[bytes]:
    return cut(struct.pack(f">{len(paths)}I", *map(len, paths)), 4)


def cut(data: bytes, width: int) -> list[bytes]:
    """Pieces of one width, of data that has nothing left over. Faster than slicing for each of them."""
    many = struct.Struct(f"{width}s" * _CUT)
    whole = len(data) - len(data) % many.size
    pieces = [piece for at in range(0, whole, many.size) for piece in many.unpack_from(data, at)]
    return pieces + [data[at : at + width] for at in range(whole, len(data), width)]


def tracked_id(paths: Iterable[bytes]) -> str:
    """Hex SHA-256 over a set of paths: sorted, each behind its length in 4 bytes, big-endian."""
    return _tracked_id(paths if isinstance(paths, frozenset) else frozenset(paths))


@lru_cache(maxsize=4)  # a push asks several times for the same one or two sets
def _tracked_id(paths: frozenset[bytes]) -> str:
    ordered = sorted(paths)
    columns = zip(_lengths(ordered), ordered, strict=True)
    return hashlib.sha256(_TRACKED_PREFIX + b"".join(chain.from_iterable(columns))).hexdigest()


def check_path(path: bytes) -> None:
    """Raise ManifestError unless `path` is relative, not too long, and cannot leave its root."""
    if not isinstance(path, bytes):
        raise ManifestError(f"a path must be bytes, not {type(path).__name__}")
    if path.count(b"/") >= MAX_DEPTH:
        raise ManifestError(f"a path may have {MAX_DEPTH} components", path)
    if len(path) > MAX_PATH or b"\0" in path or not _NO_NAMES.isdisjoint(path.split(b"/")):
        raise ManifestError("a path must be relative, without NUL, empty, '.' or '..' components", path)


def check_entry(entry: Entry) -> None:
    """Raise ManifestError unless every field has its type and fits the entry's kind."""
    path, kind, mode, mtime_ns, size, digest, target = entry
    check_path(path)
    if type(kind) is not Kind or type(digest) is not bytes or type(target) is not bytes:
        raise ManifestError("kind, digest or target is of a wrong type", path)
    if not (_is_within(mode, 0, 0o777) and _is_within(mtime_ns, -(2**63)) and _is_within(size, 0)):
        raise ManifestError("mode, mtime or size is out of range", path)
    if len(digest) != (32 if kind is Kind.FILE else 0) or (size and kind is not Kind.FILE):
        raise ManifestError("a file, and only a file, has a size and a SHA-256 digest", path)
    if bool(target) != (kind is Kind.SYMLINK) or len(target) > MAX_PATH or b"\0" in target:
        raise ManifestError("a symlink, and only a symlink, has a target, and that holds no NUL", path)


def _is_within(number: object, lowest: int, highest: int = MAX_NUMBER) -> bool:
    return type(number) is int and lowest <= number <= highest


def check_skipped(skipped: Skipped) -> None:
    """Raise ManifestError unless both fields are what they should be."""
    check_path(skipped.path)
    if not isinstance(skipped.reason, str) or "\0" in skipped.reason:
        raise ManifestError("the reason for leaving a path out must be text, without NUL", skipped.path)
