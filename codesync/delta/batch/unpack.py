"""From a batch to changes: every file is put together from its data and its basis, and has the SHA-256 it shall have.

Nothing of the tree changes here. With the base's manifest a batch's moves become changes of single paths, so that
whoever makes them need not know what a move is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from typing import BinaryIO, NamedTuple

from codesync.delta.batch.assembly import Assembly
from codesync.delta.batch.format import (
    Attributes,
    Data,
    Delete,
    Directory,
    Header,
    How,
    Move,
    Put,
    Record,
    Symlink,
    Track,
    Untrack,
)
from codesync.delta.batch.moves import below, carried
from codesync.delta.batch.order import Places
from codesync.delta.batch.read import BatchReader
from codesync.delta.batch.tracked import BASE, TrackedChange
from codesync.delta.errors import BatchError, ManifestError
from codesync.delta.manifest import Entry, Kind, Manifest
from codesync.delta.ops import Copy
from codesync.transaction import ATTRIBUTES, DELETE, DIRECTORY, FILE, MAGIC, SYMLINK, Change, Root, is_staging

_KINDS = {FILE: Kind.FILE, DIRECTORY: Kind.DIRECTORY, SYMLINK: Kind.SYMLINK}
_STAGING_MAGIC = re.compile(rb"(?:^|/)\.codesync-[0-9a-f]{16}/magic$", re.DOTALL)
_MAGIC_DIGEST = sha256(MAGIC).hexdigest()  # a file of this content would make a directory count as staging


class UnpackedBatch(NamedTuple):
    """A batch whose files have all been put together and verified.

    `changes`: deletes, children before parents, then everything else, parents before children; one for a path.
    """

    header: Header
    changes: list[Change]
    tracked: TrackedChange

    def target(self, base: Manifest) -> Manifest:
        """The tree after the changes. BatchError unless both trees are those of the header."""
        check_base(self.header, base)
        target = changed(base, self.changes)
        if target.tree_id != self.header.target:
            raise BatchError("the batch does not lead to the tree it names")
        return target


def check_base(header: Header, base: Manifest) -> None:
    """BatchError unless the batch is made against `base`."""
    if header.base != base.tree_id:
        raise BatchError(
            f"the batch is made against tree {header.base[:12]}, but here is {base.tree_id[:12]}; make it anew"
        )


def changed(base: Manifest, changes: Iterable[Change]) -> Manifest:
    """The tree that changes make of `base`, one for a path. BatchError where they cannot be made, or make no tree."""
    gone, put = [], {}
    try:
        for change in changes:
            if change.kind == DELETE:
                gone.append(base[change.path].path)
            else:
                put[change.path] = _changed_entry(base, change)
        target = base.changed(put.values(), gone)
        target.check(put)
        _check_empty([path for path in gone if base[path].kind is Kind.DIRECTORY], target)
    except KeyError as error:
        raise BatchError("the batch changes a path that its base does not have", error.args[0]) from error
    except ManifestError as error:
        raise BatchError(f"the batch does not fit its base: {error}") from error
    return target


def _check_empty(gone: list[bytes], target: Manifest) -> None:
    """A directory goes only with all that is known to be in it."""
    paths = target.paths if gone else ()
    for path in gone:
        if path not in target and below(path, paths):
            raise BatchError("the batch deletes a directory that is to hold something", path)


def _changed_entry(base: Manifest, change: Change) -> Entry:
    old = base[change.path] if change.kind == ATTRIBUTES else None
    mode, mtime_ns = change.mode, change.mtime_ns
    if old is not None:
        mode = old.mode if mode is None else mode
        mtime_ns = old.mtime_ns if mtime_ns is None else mtime_ns
        return Entry(old.path, old.kind, mode, mtime_ns, old.size, old.digest, old.target)
    assert mtime_ns is not None
    digest = bytes.fromhex(change.digest)
    mode = 0o777 if mode is None else mode
    return Entry(change.path, _KINDS[change.kind], mode, mtime_ns, change.size, digest, change.target)


def unpack_batch(
    reader: BatchReader, basis: Root, create: Callable[[Change], BinaryIO], base: Manifest | None = None
) -> UnpackedBatch:
    """Read a batch to its end, every file put together from its data and the files in `basis`, which stay as they are.

    `create` is called once for each file and gives where its content goes; it is closed once size and SHA-256 are
    right, or the error is on its way. `base` is the manifest of `basis`; without it a batch that moves anything is
    refused. BatchError; what `create` and the files it gave raise.
    """
    if base is not None:
        check_base(reader.header, base)
    unpacking = _Unpacking(basis, create)
    records = iter(reader)
    record = next(records, None)
    while record is not None:
        record = unpacking.take(record, records)
    if unpacking.moves:
        if base is None:
            raise BatchError(
                "the batch moves what its base holds, and nobody said what that is; give the base"
            )
        unpacking.move(base, reader.count)
    header = reader.header
    tracked = TrackedChange(
        header.tracked_start or BASE,
        tuple(unpacking.track),
        tuple(unpacking.untrack),
        header.base_tracked,
        header.target_tracked,
        unpacking.moved,
    )
    return UnpackedBatch(header, unpacking.changes(), tracked)


class _Unpacking:
    """What has been unpacked so far."""

    def __init__(self, basis: Root, create: Callable[[Change], BinaryIO]) -> None:
        self.moves: dict[bytes, bytes] = {}
        self.moved: dict[bytes, bytes] = {}
        self.track: list[bytes] = []
        self.untrack: list[bytes] = []
        self._deletes: dict[bytes, Change] = {}
        self._stands: dict[bytes, Change] = {}
        self._basis = basis
        self._create = create

    def changes(self) -> list[Change]:
        """All of them, in the order of `UnpackedBatch`."""
        return [
            *(self._deletes[path] for path in sorted(self._deletes, reverse=True)),
            *(self._stands[path] for path in sorted(self._stands)),
        ]

    def take(self, record: Record, following: Iterator[Record]) -> Record | None:
        """Do what `record` says, with as many of the following ones as belong to it; return the next."""
        match record:
            case Track():
                self.track.append(record.path)
            case Untrack():
                self.untrack.append(record.path)
            case Move():
                self.moves[record.source] = record.path
            case Delete():
                self._deletes[record.path] = self._allowed(Change(record.path, DELETE))
            case Put():
                return self._put(record, following)
            case Directory() | Symlink() | Attributes():
                self._stands[record.path] = self._allowed(_change(record))
            case _:
                raise AssertionError("the reader lets no data through but behind its put")
        return next(following, None)

    def _put(self, put: Put, data: Iterator[Record]) -> Record | None:
        change = Change(put.path, FILE, put.mode, put.mtime_ns, put.size, put.digest.hex())
        self._stands[put.path] = self._allowed(change)
        with Assembly(put, self._basis, self._create(change)) as assembly:
            return assembly.fill(data)

    def _allowed(self, change: Change) -> Change:
        top = change.path.split(b"/", 1)[0]
        if is_staging(self._basis.fd, top) or (
            _STAGING_MAGIC.search(change.path) and change.digest == _MAGIC_DIGEST
        ):
            raise BatchError("the batch reaches into a staging directory", change.path)
        return change

    # ---- moves

    def move(self, base: Manifest, count: Callable[[bytes, int], object]) -> None:
        """Make changes of the moves, now that all records are known. BatchError, LimitExceeded."""
        placed = carried(base, self.moves, self._deletes, count)
        self.moved = {old.path: path for path, old in placed.items() if old.path != path}
        for source in self.moved:
            if source not in placed:
                self._leave(source)
        for path, old in placed.items():
            if path != old.path:
                self._place(path, old)
        self._check_places()

    def _leave(self, path: bytes) -> None:
        there = self._stands.get(path)
        if there is None:
            self._deletes[path] = self._allowed(Change(path, DELETE))
        elif there.kind == ATTRIBUTES:
            raise BatchError("the batch changes a path that it moves away", path)

    def _place(self, path: bytes, old: Entry) -> None:
        """Put an entry of the base at another path, unless something else is put there, or with other attributes."""
        there = self._stands.get(path)
        if there is not None and there.kind != ATTRIBUTES:
            return
        mode = old.mode if there is None or there.mode is None else there.mode
        mtime_ns = old.mtime_ns if there is None or there.mtime_ns is None else there.mtime_ns
        if old.kind is Kind.FILE:
            put = Put(path, How.MOVED, mode, mtime_ns, old.size, old.digest, old.path)
            data: list[Data] = [Copy(0, old.size)] if old.size else []
            self._put(put, iter(data))
        elif old.kind is Kind.DIRECTORY:
            self._stands[path] = self._allowed(Change(path, DIRECTORY, mode, mtime_ns))
        else:
            self._stands[path] = self._allowed(Change(path, SYMLINK, None, mtime_ns, target=old.target))

    def _check_places(self) -> None:
        """What the reader checks record by record, for all changes together."""
        places = Places()
        for path in self._deletes:
            places.close(path)
        for path in sorted(self._stands):
            places.check(path)
            if self._stands[path].kind in (FILE, SYMLINK):
                places.close(path)


def _change(record: Directory | Symlink | Attributes) -> Change:
    match record:
        case Directory(path, mode, mtime_ns):
            return Change(path, DIRECTORY, mode, mtime_ns)
        case Symlink(path, mtime_ns, target):
            return Change(path, SYMLINK, None, mtime_ns, target=target)
        case Attributes(path, new_mode, new_mtime_ns):
            return Change(path, ATTRIBUTES, new_mode, new_mtime_ns)
