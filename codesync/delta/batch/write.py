"""Writing a batch: what leads from one manifest to another, content read from the tree as it streams out.

Bounded memory: one piece of one file at a time. A file that is not what its entry says is SourceChanged, and what has
been written until then is worth nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import zstandard
from xxhash import xxh3_64

from codesync.delta.batch.content import Content
from codesync.delta.batch.finding import find_moves
from codesync.delta.batch.format import (
    CHECK,
    HEAD,
    MAGIC,
    MAGICLESS,
    MAX_PUSH_ID,
    VERSION,
    Attributes,
    Data,
    Delete,
    Directory,
    Header,
    Move,
    Put,
    Record,
    Symlink,
    Track,
    Trailer,
    Untrack,
    encode,
)
from codesync.delta.batch.moves import carried
from codesync.delta.batch.order import sizes
from codesync.delta.batch.tracked import BASE, TrackedChange
from codesync.delta.errors import BatchError
from codesync.delta.manifest import Entry, Kind, Manifest, difference
from codesync.transaction import Root

if TYPE_CHECKING:
    from codesync.delta.refine import Refined
    from codesync.delta.signature import Signature


class BatchSummary(NamedTuple):
    """How many paths a batch changes and how; bytes of content sent, copied from the base, and written in all.

    What moves as a whole is in `renamed`, and in no sum of bytes.
    """

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
    signatures: Mapping[bytes, Signature | Refined] | None = None,
    sources: Mapping[bytes, bytes] | None = None,
    basis: Callable[[Entry], BinaryIO | None] | None = None,
    tracked: TrackedChange | None = None,
    exact: bool = False,
) -> BatchSummary:
    """Write the batch that takes `base` to `target`, whose files stand in `root`.

    A file that changes goes as a delta where that is smaller. `basis` is asked for the content that an entry of the
    base had: a binary file, which is closed afterwards, or None where it is not at hand. `signatures`: of files of the
    base, by path; with one a delta takes more bytes. `sources`: for a path of the target another path of the base that
    its delta shall be made against, as for a file moved and edited; one in a moved directory needs none. Content that
    the base has at any path is copied from there in any case. `exact`: an entry whose mtime alone differs is a change
    too, and a directory gets its own back once what is in it has changed. SourceChanged: a file is not what `target` says; scan again.
    """
    if len(push_id) > MAX_PUSH_ID:
        raise BatchError(f"a push_id may have {MAX_PUSH_ID} characters, not {len(push_id)}")
    changes = _Changes(base, target, exact=exact)
    change = tracked.along(changes.moved) if tracked else None
    writer = _Writer(out, _header(base, target, push_id, change))
    with rooted(root) as tree:
        content = Content(tree, base, changes.same(), signatures or {}, basis)
        for record in changes.records(content, sources or {}):
            writer.put(record)
    if change:
        for path in change.remove:
            writer.put(Untrack(path))
        for path in change.add:
            writer.put(Track(path))
    writer.finish()
    return changes.summary(writer)


def _header(base: Manifest, target: Manifest, push_id: str, tracked: TrackedChange | None) -> Header:
    header = Header(base.tree_id, target.tree_id, push_id)
    if tracked is None:
        return header
    stays = tracked.start == BASE and not (tracked.add or tracked.remove)  # then one id is enough
    ids = tracked.base_id, "" if stays else tracked.target_id
    return header._replace(tracked_start=tracked.start, base_tracked=ids[0], target_tracked=ids[1])


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
        self._moves, self._deleted = find_moves(base, target, found)
        placed = carried(base, self._moves, self._deleted, lambda path, size: None)
        self._placed = {path: old for path, old in placed.items() if path != old.path}
        self.moved = {old.path: path for path, old in self._placed.items()}
        touched = {*found.added, *found.modified, *found.attributes, *(new for _, new in found.renamed)}
        touched.update(self._placed, (path for path in self.moved if path in target))
        self._puts: list[Entry] = []
        self._attributes: dict[bytes, Attributes] = {}
        for path in sorted(touched):
            self._sort(path)
        if exact:
            self._restore()

    def _restore(self) -> None:
        """A directory's mtime moves as something in it is put, deleted or moved; those put or moved have theirs set."""
        put = {entry.path for entry in self._puts}
        changed = put.union(self._deleted, self._placed, self.moved)
        for path in {path.rpartition(b"/")[0] for path in changed}.difference(put, self._placed):
            if path in self._target:
                mode = self._attributes[path].mode if path in self._attributes else None
                self._attributes[path] = Attributes(path, mode, self._target[path].mtime_ns)

    def _sort(self, path: bytes) -> None:
        """What is to be said of a path once everything has moved: it is put, gets other attributes, or is right."""
        old, new = self._before(path), self._target[path]
        if old is None or (old.kind, old.digest, old.target) != (new.kind, new.digest, new.target):
            self._puts.append(new)
            return
        mode = new.mode if new.mode != old.mode and new.kind is not Kind.SYMLINK else None
        mtime_ns = new.mtime_ns if self._exact and new.mtime_ns != old.mtime_ns else None
        if mode is not None or mtime_ns is not None:
            self._attributes[path] = Attributes(path, mode, mtime_ns)

    def _before(self, path: bytes) -> Entry | None:
        """The base's entry that stands at a path once everything has moved."""
        return self._placed.get(path) or (None if path in self.moved else self._base.get(path))

    def same(self) -> dict[bytes, bytes]:
        """Where the base has content that is to be put: paths by digest, of several the first."""
        return self._base.first_with({entry.digest for entry in self._puts if entry.size})

    def records(self, content: Content, sources: Mapping[bytes, bytes]) -> Iterator[Record]:
        """Deletes from the last to the first, moves, then what stands, each file with its data."""
        yield from map(Delete, sorted(self._deleted, reverse=True))
        yield from sorted(Move(path, source) for source, path in self._moves.items())
        for path, new in self._standing():
            if new is None:
                yield self._attributes[path]
            elif new.kind is Kind.DIRECTORY:
                yield Directory(path, new.mode, new.mtime_ns)
            elif new.kind is Kind.SYMLINK:
                yield Symlink(path, new.mtime_ns, new.target)
            else:
                old = self._before(path)
                yield from content.records(new, sources.get(path) or (old.path if old else path))

    def _standing(self) -> Iterable[tuple[bytes, Entry | None]]:
        puts = ((entry.path, entry) for entry in self._puts)
        return sorted([*puts, *((path, None) for path in self._attributes)], key=lambda item: item[0])

    def summary(self, writer: _Writer) -> BatchSummary:
        """The counts, for people."""
        found = self._found
        return BatchSummary(
            len(found.added),
            sum(path not in self._attributes for path in found.modified),
            len(found.deleted),
            len(found.renamed),
            len(self._attributes),
            writer.literal_bytes,
            writer.copied_bytes,
            writer.wire_bytes,
        )


class _Writer:
    """Records into a compressed stream, counted and hashed."""

    def __init__(self, out: BinaryIO, header: Header) -> None:
        self.literal_bytes = self.copied_bytes = self.wire_bytes = 0
        self._out = out
        self._check = xxh3_64()
        self._records = self._size = 0
        self._deflater = zstandard.ZstdCompressor(compression_params=_parameters()).compressobj()
        self._write(HEAD.pack(MAGIC, VERSION))
        self._encode(header)

    def put(self, record: Record) -> None:
        """One more record."""
        self._records += 1
        if isinstance(record, Put):
            self._size += record.size
        elif isinstance(record, Data):
            made, sent = sizes(record)
            self.literal_bytes += sent
            self.copied_bytes += max(0, made - sent)
        self._encode(record)

    def finish(self) -> None:
        """The trailer, and the checksum of it all."""
        self._encode(Trailer(self._records, self._size))
        self._write(self._deflater.flush())
        self._write(CHECK.pack(self._check.intdigest()))

    def _encode(self, record: Record | Header | Trailer) -> None:
        self._write(self._deflater.compress(encode(record)))

    def _write(self, data: bytes) -> None:
        if data:
            self._check.update(data)
            self._out.write(data)
            self.wire_bytes += len(data)


def _parameters() -> zstandard.ZstdCompressionParameters:
    # level 6: on code within 4 % of the size of level 9, at one and a half times its speed and with 3 MB of memory, and
    # what does not compress it passes at 2 GB/s; the frame carries nothing that the batch has
    return zstandard.ZstdCompressionParameters.from_level(
        6, format=MAGICLESS, write_content_size=False, write_checksum=False, write_dict_id=False
    )
