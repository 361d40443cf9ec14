"""Writing a batch: what leads from one manifest to another, content read from the tree as it streams out.

Bounded memory: one piece of one file at a time. A file that is not what its entry says is SourceChanged, and what has
been written until then is worth nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import BinaryIO, NoReturn

import zstandard
from xxhash import xxh3_64

from codesync.delta.batch.format import (
    CHECK,
    HEAD,
    MAGIC,
    MAX_PUSH_ID,
    VERSION,
    Attributes,
    Delete,
    Directory,
    Header,
    How,
    Put,
    Record,
    Symlink,
    Track,
    Trailer,
    Untrack,
    encode,
)
from codesync.delta.batch.tracked import TrackedChange
from codesync.delta.errors import BatchError, SourceChanged
from codesync.delta.manifest import Entry, Kind, Manifest, difference
from codesync.delta.match import delta
from codesync.delta.ops import MAX_LITERAL, Copy, Literal, Op
from codesync.delta.patch import HashingReader
from codesync.delta.reading import Readable, read_fully
from codesync.delta.signature import Signature
from codesync.transaction import Root, TransactionError


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """How many paths a batch changes and how; bytes of content sent, copied from the base, and written in all."""

    added: int = 0
    modified: int = 0
    deleted: int = 0
    renamed: int = 0
    attributes: int = 0
    literal_bytes: int = 0
    copied_bytes: int = 0
    wire_bytes: int = 0


def write_batch(
    out: BinaryIO,
    root: str | bytes | Root,
    base: Manifest,
    target: Manifest,
    *,
    push_id: str = "",
    signatures: Mapping[bytes, Signature] | None = None,
    sources: Mapping[bytes, bytes] | None = None,
    tracked: TrackedChange | None = None,
    exact: bool = False,
) -> BatchSummary:
    """Write the batch that takes `base` to `target`, whose files stand in `root`.

    `signatures`: of files of the base, by path; a file that has one and changes goes as a delta. `sources`: for a path
    of the target another path of the base that its delta shall be made against, as for a file moved and edited.
    Content that the base has at any path is copied from there in any case. `exact`: an entry whose mtime alone differs
    is a change too. SourceChanged: a file is not what `target` says; scan again.
    """
    if len(push_id) > MAX_PUSH_ID:
        raise BatchError(f"a push_id may have {MAX_PUSH_ID} characters, not {len(push_id)}")
    found = _Changes(base, target, exact=exact)
    change = tracked or TrackedChange()
    start = change.start if tracked else ""
    header = Header(
        base.tree_id,
        target.tree_id,
        push_id,
        tracked_start=start,
        base_tracked=change.base_id,
        target_tracked=change.target_id,
    )
    writer = _Writer(out, header)
    with rooted(root) as tree:
        for record in found.records(_Content(tree, base, found.wanted, signatures or {}, sources or {})):
            writer.put(record)
    for path in change.remove:
        writer.put(Untrack(path))
    for path in change.add:
        writer.put(Track(path))
    return found.summary(*writer.finish())


@contextmanager
def rooted(root: str | bytes | Root) -> Iterator[Root]:
    """A tree by its path, opened and closed again, or one that is open and stays so."""
    if isinstance(root, Root):
        yield root
    else:
        with Root(root) as opened:
            yield opened


class _Changes:
    """What leads from one manifest to the other, as records in the order of the format."""

    def __init__(self, base: Manifest, target: Manifest, *, exact: bool) -> None:
        self._base, self._target, self._exact = base, target, exact
        self._found = found = difference(base, target, exact=True)
        gone = [*found.deleted, *(old for old, _ in found.renamed)]
        come = [*found.added, *(new for _, new in found.renamed)]
        self._attributes = [
            path for path in found.attributes if self._attributes_record(path)[1:] != (None, None)
        ]
        self._deleted = sorted(gone, reverse=True)
        self._standing = sorted([*come, *found.modified, *self._attributes])

    @property
    def wanted(self) -> set[bytes]:
        """Digests of the content that the base may have somewhere."""
        return {entry.digest for path in self._standing if (entry := self._target[path]).size}

    def records(self, content: _Content) -> Iterator[Record]:
        """Deletes from the last to the first, then what stands, each file with its data."""
        yield from map(Delete, self._deleted)
        for path in self._standing:
            old, new = self._base.get(path), self._target[path]
            if old is not None and _same_content(old, new):
                yield self._attributes_record(path)
            elif new.kind is Kind.DIRECTORY:
                yield Directory(path, new.mode, new.mtime_ns)
            elif new.kind is Kind.SYMLINK:
                yield Symlink(path, new.mtime_ns, new.target)
            else:
                yield from content.records(new)

    def _attributes_record(self, path: bytes) -> Attributes:
        old, new = self._base[path], self._target[path]
        mode = new.mode if new.mode != old.mode and new.kind is not Kind.SYMLINK else None
        return Attributes(path, mode, new.mtime_ns if self._exact and new.mtime_ns != old.mtime_ns else None)

    def summary(self, trailer: Trailer, wire_bytes: int) -> BatchSummary:
        """The counts, for people."""
        found = self._found
        return BatchSummary(
            len(found.added),
            len(found.modified),
            len(found.deleted),
            len(found.renamed),
            len(self._attributes),
            trailer.literal_bytes,
            trailer.copied_bytes,
            wire_bytes,
        )


def _same_content(old: Entry, new: Entry) -> bool:
    return (old.kind, old.digest, old.target) == (new.kind, new.digest, new.target)


class _Content:
    """Where the bytes of a put come from: the same content in the base, a delta, or the file as it is."""

    def __init__(
        self,
        root: Root,
        base: Manifest,
        wanted: set[bytes],
        signatures: Mapping[bytes, Signature],
        sources: Mapping[bytes, bytes],
    ) -> None:
        self._root = root
        self._base = base
        self._signatures = signatures
        self._sources = sources
        # of several paths with the same content the first
        self._paths = {entry.digest: entry.path for entry in reversed(base.entries) if entry.digest in wanted}

    def records(self, entry: Entry) -> Iterator[Record]:
        """The put and its data."""
        path = entry.path
        same = self._paths.get(entry.digest) if entry.size else None
        basis = self._sources.get(path, path)
        if same is not None:
            yield _put(entry, How.MOVED, same)
            yield Copy(0, entry.size)
        elif (sig := self._signature(basis)) is None or not entry.size:
            yield _put(entry, How.WHOLE)
            yield from self._read(entry, _pieces)
        else:
            yield _put(entry, How.DELTA) if basis == path else _put(entry, How.MOVED, basis)
            yield from self._read(entry, partial(delta, sig))

    def _signature(self, basis: bytes) -> Signature | None:
        """That of the base's file at `basis`; one of another length is of some other file."""
        old, sig = self._base.get(basis), self._signatures.get(basis)
        fits = old and sig and old.kind is Kind.FILE and 0 < old.size == sig.length
        return sig if fits else None

    def _read(self, entry: Entry, make: Callable[[Readable], Iterator[Op]]) -> Iterator[Op]:
        path = entry.path
        try:
            file = self._root.open(path)
        except (FileNotFoundError, NotADirectoryError, PermissionError, TransactionError) as error:
            raise SourceChanged(
                f"a file to send can no longer be read ({error}); scan again", path
            ) from error
        with file:
            source = _Expected(file, entry)
            yield from make(source)
            source.check()


def _put(entry: Entry, how: How, source: bytes = b"") -> Put:
    return Put(entry.path, how, entry.mode, entry.mtime_ns, entry.size, entry.digest, source)


def _pieces(file: Readable) -> Iterator[Op]:
    while data := read_fully(file, MAX_LITERAL):
        yield Literal(data)


class _Expected(HashingReader):
    """A file that must turn out as its entry says; one that grows without end is given up in time."""

    def __init__(self, file: Readable, entry: Entry) -> None:
        super().__init__(file)
        self._entry = entry

    def read(self, size: int = -1, /) -> bytes:
        data = super().read(size)
        if self.length > self._entry.size:
            self._refuse()
        return data

    def check(self) -> None:
        """SourceChanged unless what was read is what the entry says."""
        if self.length != self._entry.size or self.digest() != self._entry.digest:
            self._refuse()

    def _refuse(self) -> NoReturn:
        raise SourceChanged("a file changed after it was scanned; scan again", self._entry.path)


class _Writer:
    """Records into a compressed stream, counted and hashed."""

    def __init__(self, out: BinaryIO, header: Header) -> None:
        self._out = out
        self._check = xxh3_64()
        self._sha256 = sha256()
        self._records = self._literal_bytes = self._copied_bytes = self._wire_bytes = 0
        self._deflater = zstandard.ZstdCompressor(compression_params=_parameters()).compressobj()
        self._write(HEAD.pack(MAGIC, VERSION))
        self._encode(header)

    def put(self, record: Record) -> None:
        """One more record."""
        self._records += 1
        if isinstance(record, Literal):
            self._literal_bytes += len(record.data)
        elif isinstance(record, Copy):
            self._copied_bytes += record.length
        self._encode(record)

    def finish(self) -> tuple[Trailer, int]:
        """The trailer that was written, and the bytes of it all."""
        trailer = Trailer(self._records, self._literal_bytes, self._copied_bytes, self._sha256.digest())
        self._encode(trailer)
        self._write(self._deflater.flush())
        self._write(CHECK.pack(self._check.intdigest()))
        return trailer, self._wire_bytes

    def _encode(self, record: Record | Header | Trailer) -> None:
        data = encode(record)
        self._sha256.update(data)
        self._write(self._deflater.compress(data))

    def _write(self, data: bytes) -> None:
        if data:
            self._check.update(data)
            self._out.write(data)
            self._wire_bytes += len(data)


def _parameters() -> zstandard.ZstdCompressionParameters:
    # level 6: on code within 3 % of the size of level 9, at one and a half times its speed and with 3 MB of memory;
    # the frame carries no checksum and no size of its own, the batch does
    return zstandard.ZstdCompressionParameters.from_level(
        6, write_content_size=False, write_checksum=False, write_dict_id=False
    )
