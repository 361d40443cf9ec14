"""One tree made like another, as `rsync -a --checksum [--delete] SRC/ DST/` without owners: wholly or not at all.

Content is compared, never guessed from times. Permission bits (0777) and mtimes are exact, of files, directories,
symlinks (mtime) and the root. What the rules ignore, and what of the source cannot be read, is left alone.
"""

from __future__ import annotations

import os
from collections.abc import Container
from typing import TYPE_CHECKING, NamedTuple

from codesync.delta.errors import ScanError, show
from codesync.delta.manifest import Entry, Kind, Manifest, Skipped, difference, scan
from codesync.transaction import (
    ATTRIBUTES,
    DELETE,
    DIRECTORY,
    FILE,
    SYMLINK,
    Change,
    Root,
    Transaction,
    UnsafePath,
    VerificationError,
    recover,
)

if TYPE_CHECKING:
    from codesync.delta.ignore import Rules


class SyncResult(NamedTuple):
    """What was done, as paths in order. `attributes`: only mode or mtime were set; b"" is the root itself.

    `skipped` is what of the source could not be carried, `left` are directories that were to go but hold something
    that had to stay. `size`: bytes of content that were copied.
    """

    added: tuple[bytes, ...]
    modified: tuple[bytes, ...]
    deleted: tuple[bytes, ...]
    attributes: tuple[bytes, ...]
    skipped: tuple[Skipped, ...]
    left: tuple[bytes, ...]
    size: int


def sync(source: str, destination: str, *, mirror: bool = False, rules: Rules | None = None) -> SyncResult:
    """Make `destination` (created if missing) hold what `source` holds; with `mirror`, nothing else.

    `rules` are the source's. What they ignore is neither copied nor, with `mirror`, deleted.

    Raises:
        ScanError: the source is missing or cannot be listed, changes while it is copied, or the destination lies in it.
        TransactionError: the destination cannot be changed; it is as it was.
    """
    target = scan(source, rules=rules)
    _refuse_nesting(source, destination, target, rules)
    _make_destination(destination)
    with Root(source) as there, Root(destination) as here:
        recover(here)
        base = scan(here)
        plan = _Plan(base, target, _deletes(base, target, rules) if mirror else ())
        plan.adjust_root(os.fstat(here.fd), os.fstat(there.fd))
        left = _carry_out(plan, there, here) if plan.changes else []
        return plan.result(left)


def _refuse_nesting(source: str, destination: str, target: Manifest, rules: Rules | None) -> None:
    """A destination inside the source, there already or not, must be one that the rules ignore."""
    inside = os.fsencode(os.path.relpath(os.path.realpath(destination), os.path.realpath(source)))
    outside = inside in {b".", b".."} or inside.startswith(b"../")
    if inside in target or not (outside or (rules is not None and rules.ignored(inside, is_directory=True))):
        raise ScanError(
            f"{destination} lies in the tree it is to be made from; choose another place or ignore it"
        )


def _make_destination(destination: str) -> None:
    try:
        os.makedirs(destination, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ScanError(
            f"{destination} is no directory; name one, or a place where one can be made"
        ) from error


def _deletes(base: Manifest, target: Manifest, rules: Rules | None) -> tuple[bytes, ...]:
    """What only the destination has, specials and unreadable files too, but for what must stay."""
    kept = {skipped.path for skipped in target.skipped}
    known = [(entry.path, entry.kind is Kind.DIRECTORY) for entry in base]
    known += [(skipped.path, False) for skipped in base.skipped]
    return tuple(
        path
        for path, is_directory in sorted(known)
        if path not in target
        and not _is_covered(path, kept)
        and not (rules is not None and rules.ignored(path, is_directory))
    )


def _is_covered(path: bytes, kept: Container[bytes]) -> bool:
    """Whether `path` is in `kept`, or a directory above it is."""
    while path:
        if path in kept:
            return True
        path = path[: max(0, path.rfind(b"/"))]
    return False


class _Plan:
    """The changes that lead from `base` to `target`, one for each path."""

    def __init__(self, base: Manifest, target: Manifest, deleted: tuple[bytes, ...]) -> None:
        found = difference(base, target, exact=True)
        self.target = target
        self.deleted = deleted
        self.added = tuple(sorted((*found.added, *(new for _, new in found.renamed))))
        self.modified = tuple(path for path in found.modified if not _same_content(base[path], target[path]))
        adjusted = {*found.attributes, *found.modified}.difference(self.modified)
        self.changes = {path: Change(path, DELETE) for path in deleted}
        self.changes |= {path: _put(target[path]) for path in (*self.added, *self.modified)}
        touched = {path.rpartition(b"/")[0] for path in self.changes}
        adjusted |= {path for path in touched if path in target and path not in self.changes}
        self.attributes = sorted(adjusted)
        self.changes |= {path: _adjust(target[path]) for path in adjusted}

    def adjust_root(self, now: os.stat_result, wanted: os.stat_result) -> None:
        """The root is in no manifest; any change in it moves its mtime."""
        if self.changes or (now.st_mtime_ns, now.st_mode) != (wanted.st_mtime_ns, wanted.st_mode):
            self.changes[b""] = Change(b"", ATTRIBUTES, wanted.st_mode & 0o777, wanted.st_mtime_ns)
            self.attributes.insert(0, b"")

    def result(self, left: list[bytes]) -> SyncResult:
        deleted = tuple(path for path in self.deleted if path not in left)
        size = sum(self.target[path].size for path in (*self.added, *self.modified))
        attributes = tuple(self.attributes)
        return SyncResult(
            self.added, self.modified, deleted, attributes, self.target.skipped, tuple(sorted(left)), size
        )


def _same_content(old: Entry, new: Entry) -> bool:
    return (old.kind, old.digest, old.target) == (new.kind, new.digest, new.target)


def _put(entry: Entry) -> Change:
    path, mode, mtime = entry.path, entry.mode, entry.mtime_ns
    if entry.kind is Kind.FILE:
        return Change(path, FILE, mode, mtime, entry.size, entry.digest.hex())
    if entry.kind is Kind.DIRECTORY:
        return Change(path, DIRECTORY, mode, mtime)
    return Change(path, SYMLINK, None, mtime, target=entry.target)


def _adjust(entry: Entry) -> Change:
    return Change(entry.path, ATTRIBUTES, None if entry.kind is Kind.SYMLINK else entry.mode, entry.mtime_ns)


def _carry_out(plan: _Plan, there: Root, here: Root) -> list[bytes]:
    """One transaction; the answer is the directories that had to stay."""
    with Transaction.begin(here, "sync") as transaction:
        for change in plan.changes.values():
            if change.kind == FILE:
                _copy(transaction, change, there)
            else:
                transaction.add(change)
        transaction.rename()
        transaction.keep()
        return transaction.left


def _copy(transaction: Transaction, change: Change, there: Root) -> None:
    try:
        with there.open(change.path) as file:
            transaction.copy(change, file)
    except (OSError, UnsafePath, VerificationError) as error:
        raise ScanError(f"{show(change.path)} changed while the tree was copied; try again") from error
