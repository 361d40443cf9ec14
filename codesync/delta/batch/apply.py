"""From a batch to changes, and from changes to a tree: what `base` was becomes `target`, or nothing happens.

Every file is put together outside the tree and has the size and SHA-256 the batch names, before anything is renamed.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import BinaryIO, Self

from codesync.delta.batch.format import (
    Attributes,
    Delete,
    Directory,
    Header,
    How,
    Limits,
    Put,
    Record,
    Symlink,
    Track,
    Untrack,
)
from codesync.delta.batch.read import BatchReader, read_batch
from codesync.delta.batch.tracked import BASE, TrackedChange
from codesync.delta.batch.write import rooted
from codesync.delta.errors import BatchError, ManifestError, PatchError
from codesync.delta.manifest import Entry, Kind, Manifest, scan
from codesync.delta.ops import Copy, Literal
from codesync.delta.patch import content
from codesync.delta.reading import Readable
from codesync.transaction import (
    ATTRIBUTES,
    DELETE,
    DIRECTORY,
    FILE,
    MAGIC,
    SYMLINK,
    Change,
    Root,
    Transaction,
    TransactionError,
    UnsafePath,
    is_staging,
)


@dataclass(frozen=True, slots=True)
class UnpackedBatch:
    """A batch whose files have all been put together and verified.

    `changes`: deletes, children before parents, then everything else, parents before children.
    """

    header: Header
    changes: list[Change]
    tracked: TrackedChange

    def target(self, base: Manifest) -> Manifest:
        """The tree after the changes. BatchError unless both trees are those of the header."""
        check_base(self.header, base)
        try:
            put = {
                change.path: _changed_entry(base, change) for change in self.changes if change.kind != DELETE
            }
            gone = [base[change.path].path for change in self.changes if change.kind == DELETE]
            target = base.changed(put.values(), gone)
            target.check(put)
        except KeyError as error:
            raise BatchError("the batch changes a path that its base does not have", error.args[0]) from error
        except ManifestError as error:
            raise BatchError(f"the batch does not fit its base: {error}") from error
        if target.tree_id != self.header.target:
            raise BatchError("the batch does not lead to the tree it names")
        return target


def check_base(header: Header, base: Manifest) -> None:
    """BatchError unless the batch is made against `base`."""
    if header.base != base.tree_id:
        raise BatchError(
            f"the batch is made against tree {header.base[:12]}, but here is {base.tree_id[:12]}; make it anew"
        )


_KINDS = {FILE: Kind.FILE, DIRECTORY: Kind.DIRECTORY, SYMLINK: Kind.SYMLINK}
_STAGING_MAGIC = re.compile(rb"(?:^|/)\.codesync-[0-9a-f]{16}/magic$", re.DOTALL)
_MAGIC_DIGEST = sha256(MAGIC).hexdigest()  # a file of this content would make a directory count as staging


def _changed_entry(base: Manifest, change: Change) -> Entry:
    if change.kind == ATTRIBUTES:
        old = base[change.path]
        mode = old.mode if change.mode is None else change.mode
        return replace(old, mode=mode, mtime_ns=old.mtime_ns if change.mtime_ns is None else change.mtime_ns)
    assert change.mtime_ns is not None
    mode = 0o777 if change.mode is None else change.mode
    digest = bytes.fromhex(change.digest)
    return Entry(change.path, _KINDS[change.kind], mode, change.mtime_ns, change.size, digest, change.target)


def unpack_batch(reader: BatchReader, basis: Root, create: Callable[[Change], BinaryIO]) -> UnpackedBatch:
    """Read a batch to its end, every file put together from its data and the files in `basis`, which stay as they are.

    `create` is called once for each file and gives where its content goes; it is closed once size and SHA-256 are
    right, or the error is on its way. BatchError; what `create` and the files it gave raise.
    """
    unpacking = _Unpacking(basis, create)
    records = iter(reader)
    record = next(records, None)
    while record is not None:
        record = unpacking.take(record, records)
    header = reader.header
    tracked = TrackedChange(
        header.tracked_start or BASE,
        tuple(unpacking.track),
        tuple(unpacking.untrack),
        header.base_tracked,
        header.target_tracked,
    )
    return UnpackedBatch(header, unpacking.changes, tracked)


class _Unpacking:
    """What has been unpacked so far."""

    def __init__(self, basis: Root, create: Callable[[Change], BinaryIO]) -> None:
        self.changes: list[Change] = []
        self.track: list[bytes] = []
        self.untrack: list[bytes] = []
        self._basis = basis
        self._create = create

    def take(self, record: Record, following: Iterator[Record]) -> Record | None:
        """Do what `record` says, with as many of the following ones as belong to it; return the next."""
        match record:
            case Track():
                self.track.append(record.path)
            case Untrack():
                self.untrack.append(record.path)
            case Put():
                change = self._add(_change(record))
                with _Assembly(record, self._basis, self._create(change)) as assembly:
                    return assembly.fill(following)
            case Literal() | Copy():
                raise AssertionError("the reader lets no data through but behind its put")
            case _:
                self._add(_change(record))
        return next(following, None)

    def _add(self, change: Change) -> Change:
        top = change.path.split(b"/", 1)[0]
        if is_staging(self._basis.fd, top) or (
            _STAGING_MAGIC.search(change.path) and change.digest == _MAGIC_DIGEST
        ):
            raise BatchError("the batch reaches into a staging directory", change.path)
        self.changes.append(change)
        return change


def _change(record: Delete | Directory | Symlink | Put | Attributes) -> Change:
    match record:
        case Delete(path):
            return Change(path, DELETE)
        case Directory(path, mode, mtime_ns):
            return Change(path, DIRECTORY, mode, mtime_ns)
        case Symlink(path, mtime_ns, target):
            return Change(path, SYMLINK, None, mtime_ns, target=target)
        case Put():
            digest = record.digest.hex()
            return Change(record.path, FILE, record.mode, record.mtime_ns, record.size, digest)
        case Attributes(path, new_mode, new_mtime_ns):
            return Change(path, ATTRIBUTES, new_mode, new_mtime_ns)


class _Assembly:
    """One file on its way from data and basis to `out`, which is closed whatever happens."""

    def __init__(self, put: Put, basis: Root, out: BinaryIO) -> None:
        self._put = put
        self._root = basis
        self._basis: BinaryIO | None = None
        self._size = 0
        self._out = out
        self._sha256 = sha256()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._basis is not None:
            self._basis.close()
        if kind is None:
            self._out.close()
        else:  # a file that is not whole complains when it is closed; the error on its way says more
            with suppress(OSError, TransactionError):
                self._out.close()

    def fill(self, records: Iterator[Record]) -> Record | None:
        """Write what the records hold until one that is no data, and return that one. BatchError."""
        record = next(records, None)
        while isinstance(record, Literal | Copy):
            for data in (record.data,) if isinstance(record, Literal) else self._copied(record):
                self._sha256.update(data)
                self._out.write(data)
            record = next(records, None)
        if self._sha256.digest() != self._put.digest:
            raise BatchError("a file has another SHA-256 than the batch names", self._put.path)
        return record

    def _copied(self, copy: Copy) -> Iterator[bytes]:
        try:
            if self._basis is None:
                self._basis = self._root.open(self._source)
                self._size = self._basis.seek(0, 2)
            yield from content(self._basis, self._size, copy)
        except (FileNotFoundError, NotADirectoryError, PatchError, UnsafePath) as error:
            raise BatchError(f"the batch does not fit its base ({error})", self._source) from error

    @property
    def _source(self) -> bytes:
        return self._put.source if self._put.how == How.MOVED else self._put.path


def apply_batch(
    file: Readable,
    root: str | bytes | Root,
    *,
    base: Manifest | None = None,
    limits: Limits | None = None,
    durable: bool = True,
) -> Manifest:
    """Make the tree `root` what the batch says, in one transaction, and return its manifest.

    `base`: the tree's manifest; without it everything in `root` is scanned. BatchError (a batch for another tree is
    one), ScanError, TransactionError, OSError: then the tree is what it was.
    """
    reader = read_batch(file, limits)
    with rooted(root) as tree:
        base = scan(tree) if base is None else base
        check_base(reader.header, base)
        name = reader.header.push_id or secrets.token_hex(8)
        with Transaction.begin(tree, name, durable=durable) as transaction:
            unpacked = unpack_batch(reader, tree, transaction.create)
            target = unpacked.target(base)
            for change in unpacked.changes:
                if change.kind != FILE:
                    transaction.add(change)
            transaction.rename()
            transaction.keep()
    return target
