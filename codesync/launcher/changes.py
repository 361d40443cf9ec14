"""From one tree to another inside the application's directory: which changes, what they overwrite, staging them.

This file knows manifests and transactions; it knows no volume layout, no socket and no process.
"""

from __future__ import annotations

import hashlib
import stat
from typing import TYPE_CHECKING, NamedTuple

from codesync.launcher.records import KINDS, Entry, Planned
from codesync.transaction import (
    ATTRIBUTES,
    DELETE,
    DIRECTORY,
    FILE,
    SYMLINK,
    Change,
    Transaction,
    UnsafePath,
    bytecode,
)

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping, Sequence
    from typing import BinaryIO

    from codesync.transaction import Root

CHUNK = 256 * 1024
_GONE = (FileNotFoundError, NotADirectoryError, UnsafePath)


class Cancelled(Exception):
    """The work was asked to end early; nothing has changed."""


class Staged(NamedTuple):
    """A transaction that only needs its `rename`, and the paths it overwrites that somebody else had changed."""

    transaction: Transaction
    drift: list[bytes]


def tree_changes(base: Mapping[bytes, Entry], target: Mapping[bytes, Entry]) -> list[Change]:
    """Every change from one manifest to another. An mtime alone is none."""
    deletes = [Change(path, DELETE) for path in sorted(base, reverse=True) if path not in target]
    puts = [_change(base.get(path), target[path]) for path in sorted(target)]
    return deletes + [change for change in puts if change is not None]


def _change(old: Entry | None, new: Entry) -> Change | None:
    if old is None or (old.kind, old.digest, old.target) != (new.kind, new.digest, new.target):
        return put(new)
    if old.mode != new.mode and new.kind != "l":
        return Change(new.path, ATTRIBUTES, mode=new.mode & 0o777)
    return None


def put(entry: Entry) -> Change:
    """The change that makes a path this entry."""
    mode = None if entry.kind == "l" else entry.mode & 0o777
    mtime_ns = entry.mtime_ns if entry.kind == "f" else None
    return Change(entry.path, KINDS[entry.kind], mode, mtime_ns, entry.size, entry.digest, entry.target)


def missing_changes(root: Root, target: Mapping[bytes, Entry]) -> list[Change]:
    """What a tree of unknown content lacks to hold all of `target`; what else it has, it keeps."""
    puts = [put(target[path]) for path in sorted(target)]
    return [change for change in puts if not _is_made(root, change)]


def drifted(root: Root, change: Change, known: Mapping[bytes, Entry]) -> bool:
    """Whether the change destroys something that the known tree does not have like that."""
    if change.kind == ATTRIBUTES or _is_made(root, change):
        return False
    entry = known.get(change.path)
    try:
        found = root.lstat(change.path)
    except _GONE:
        return entry is not None
    return entry is None or not _is_like(root, entry, found.st_mode, found.st_size, found.st_mtime_ns)


def _is_made(root: Root, change: Change) -> bool:
    """Whether the path is already what the change makes of it, modes aside."""
    try:
        found = root.lstat(change.path)
    except _GONE:
        return change.kind == DELETE
    if change.kind == FILE:
        same_size = stat.S_ISREG(found.st_mode) and found.st_size == change.size
        return same_size and _digest(root, change.path) == change.digest
    if change.kind == DIRECTORY:
        return stat.S_ISDIR(found.st_mode)
    return change.kind == SYMLINK and stat.S_ISLNK(found.st_mode) and root.readlink(change.path) == change.target


def _is_like(root: Root, entry: Entry, mode: int, size: int, mtime_ns: int) -> bool:
    if entry.kind == "d":
        return stat.S_ISDIR(mode)
    if entry.kind == "l":
        return stat.S_ISLNK(mode) and root.readlink(entry.path) == entry.target
    if not stat.S_ISREG(mode) or size != entry.size:
        return False
    return mtime_ns == entry.mtime_ns or _digest(root, entry.path) == entry.digest


def _digest(root: Root, path: bytes) -> str:
    """SHA-256 of a file; "" of one that may not be read."""
    digest = hashlib.sha256()
    try:
        with root.open(path) as file:
            for chunk in iter(lambda: file.read(CHUNK), b""):
                digest.update(chunk)
    except PermissionError:
        return ""
    return digest.hexdigest()


def stage(
    root: Root,
    name: str,
    planned: Sequence[Planned],
    known: Mapping[bytes, Entry] | None,
    source: Callable[[Planned], BinaryIO],
    cancelled: threading.Event,
) -> Staged:
    """Stage the changes, and what bytecode must go with them, as the transaction `name`; old code may still run.

    `known` is the manifest of what is there now, for drift; None where nobody knows. `source` opens a file's content.
    Raises TransactionError, OSError or Cancelled, and leaves nothing behind then.
    """
    drift = [] if known is None else [p.change.path for p in planned if _drifted(root, p, known, cancelled)]
    transaction = Transaction.begin(root, name)
    try:
        for change in bytecode(root, [each.change for each in planned]):
            transaction.add(change)
        for each in planned:
            _check(cancelled)
            if each.change.kind == FILE:
                with source(each) as content:
                    transaction.copy(each.change, content)
            else:
                transaction.add(each.change)
        _check(cancelled)
    except BaseException:
        transaction.undo()
        raise
    return Staged(transaction, drift)


def _drifted(root: Root, planned: Planned, known: Mapping[bytes, Entry], cancelled: threading.Event) -> bool:
    _check(cancelled)
    return drifted(root, planned.change, known)


def _check(cancelled: threading.Event) -> None:
    if cancelled.is_set():
        raise Cancelled
