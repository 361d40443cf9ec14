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
    """A transaction that only needs its `rename`; paths it overwrites that somebody else had changed; its changes.

    Bytecode that goes is among the changes.
    """

    transaction: Transaction
    drift: list[bytes]
    changes: list[Change]


def tree_changes(base: Mapping[bytes, Entry], target: Mapping[bytes, Entry]) -> list[Change]:
    """Every change from one manifest to another. An mtime alone is none."""
    deletes = [Change(path, DELETE) for path in sorted(base, reverse=True) if path not in target]
    return deletes + [
        put(entry) for path, entry in sorted(target.items()) if not _same(base.get(path), entry)
    ]


def _same(old: Entry | None, new: Entry) -> bool:
    if old is None or (old.kind, old.digest, old.target) != (new.kind, new.digest, new.target):
        return False
    return old.mode == new.mode or new.kind == "l"


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
    return _exists(root, change.path) if entry is None else not _is_made(root, put(entry))


def _exists(root: Root, path: bytes) -> bool:
    try:
        root.lstat(path)
    except _GONE:
        return False
    return True


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
    return (
        change.kind == SYMLINK and stat.S_ISLNK(found.st_mode) and root.readlink(change.path) == change.target
    )


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


def missing_parents(root: Root, planned: Sequence[Planned], known: Mapping[bytes, Entry]) -> list[Planned]:
    """Directories that the changes take for granted, and that somebody has removed or replaced meanwhile."""
    paths = {each.change.path for each in planned}
    wanted: dict[bytes, Planned] = {}
    for each in planned:
        parent = each.change.path
        while each.change.kind != DELETE and b"/" in parent:
            parent = parent.rpartition(b"/")[0]
            if parent in paths or parent in wanted or parent not in known:
                break
            directory = put(known[parent])
            if directory.kind != DIRECTORY or _is_made(root, directory):
                break
            wanted[parent] = Planned(directory)
    return list(wanted.values())


def stage(
    root: Root,
    name: str,
    planned: Sequence[Planned],
    *,
    known: Mapping[bytes, Entry] | None,
    source: Callable[[Planned], BinaryIO],
    cancelled: threading.Event,
    durable: bool = True,
) -> Staged:
    """Stage the changes as the transaction `name`, and prepare it as far as it goes while old code may still run.

    `known` is the manifest of what is there now, for drift, or what it has of the changed paths and the directories above
    them; None where nobody knows. `source` opens a file's content. Not `durable`: for a tree that no crash outlives. Raises TransactionError, OSError or Cancelled, and leaves nothing behind then.
    """
    drift: list[bytes] = []
    if known is not None:
        planned = [*planned, *missing_parents(root, planned, known)]
        drift = [each.change.path for each in planned if _drifted(root, each, known, cancelled)]
    changes = [each.change for each in planned]
    transaction = Transaction.begin(root, name, durable)
    try:
        for each in planned:
            _check(cancelled)
            if each.change.kind == FILE:
                with source(each) as content:
                    transaction.copy(each.change, content)
            else:
                transaction.add(each.change)
        changes += _add_bytecode(root, changes, transaction)
        _check(cancelled)
        transaction.prepare()
    except BaseException:  # whatever it was, nothing stays behind
        transaction.undo()
        raise
    return Staged(transaction, sorted(drift), changes)


def _add_bytecode(root: Root, changes: Sequence[Change], transaction: Transaction) -> list[Change]:
    found = bytecode(root, changes)
    for change in found:
        transaction.add(change)
    return found


def rename(root: Root, staged: Staged) -> None:
    """Make it the tree, now that no old code runs. Raises TransactionError; then the old tree is there.

    What the old code has compiled since it was staged goes too: only now it compiles no more. The transaction's `sync` is
    still to come.
    """
    try:
        _add_bytecode(root, staged.changes, staged.transaction)
        staged.transaction.rename(sync=False)
    except BaseException:  # whatever it was, nothing stays behind
        staged.transaction.undo()
        raise


def _drifted(root: Root, planned: Planned, known: Mapping[bytes, Entry], cancelled: threading.Event) -> bool:
    _check(cancelled)
    return drifted(root, planned.change, known)


def _check(cancelled: threading.Event) -> None:
    if cancelled.is_set():
        raise Cancelled
