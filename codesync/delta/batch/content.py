"""Where the bytes of a put come from: the same content in the base, a delta against what the base has, or the file as
it is. Every file is read once, front to back, and must turn out as its entry says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from hashlib import sha256
from io import BufferedReader
from typing import TYPE_CHECKING, BinaryIO, NoReturn, cast

from codesync.delta.batch.format import Data, How, Put, Record
from codesync.delta.errors import SourceChanged
from codesync.delta.manifest import Entry, Kind, Manifest
from codesync.delta.ops import MAX_LITERAL, Copy, Literal
from codesync.delta.reading import Readable, read_fully
from codesync.transaction import Root, TransactionError

if TYPE_CHECKING:
    from codesync.delta.refine import Refined
    from codesync.delta.signature import Signature

Make = Callable[[Readable], Iterator[Data]]
_AT_ONCE = MAX_LITERAL  # bytes of a file that is held in memory, to choose what is smaller
_CLEARLY = 4  # times smaller than the file, and a delta need not be compared with it
_RECORD = 6  # bytes a record takes besides its data, about


class Content:
    """Turns entries of files into puts with their data."""

    def __init__(
        self,
        root: Root,
        base: Manifest,
        same: Mapping[bytes, bytes],
        signatures: Mapping[bytes, Signature | Refined],
        basis: Callable[[Entry], BinaryIO | None] | None,
    ) -> None:
        """`same`: paths of the base by the digest of their content."""
        self._root = root
        self._base = base
        self._same = same
        self._signatures = signatures
        self._basis = basis

    def records(self, entry: Entry, source: bytes) -> Iterator[Record]:
        """The put and its data; `source` is the path of the base that a delta is made against."""
        same = self._same.get(entry.digest) if entry.size else None
        if same is not None:
            yield _put(entry, How.MOVED, same)
            yield Copy(0, entry.size)
            return
        how = How.DELTA if source == entry.path else How.MOVED
        put = _put(entry, how, b"" if how is How.DELTA else source)
        old = self._base.get(source) if entry.size else None
        if (held := self._held(old)) is not None:
            with closing(held):
                yield from self._delta(put, entry, held)
        elif (sig := self._signature(old)) is not None:
            yield from self._delta(put, entry, sig)
        else:
            yield _put(entry, How.WHOLE)
            yield from self._read(entry, _pieces)

    def _held(self, old: Entry | None) -> BinaryIO | None:
        """The content of the base's file, if it is at hand; one of another length is of some other file."""
        if self._basis is None or old is None or not old.size:
            return None
        file = self._basis(old)
        if file is not None and file.seek(0, 2) != old.size:
            file.close()
            return None
        return file

    def _signature(self, old: Entry | None) -> Signature | Refined | None:
        sig = self._signatures.get(old.path) if old is not None else None
        if old is None or sig is None:
            return None
        from codesync.delta.signature import Signature

        length = (sig if isinstance(sig, Signature) else sig.signature).length
        return sig if old.kind is Kind.FILE and 0 < old.size == length else None

    def _delta(self, put: Put, entry: Entry, against: Signature | Refined | BinaryIO) -> Iterator[Record]:
        """A delta, or the file as it is where that is smaller."""
        from codesync.delta.match import delta

        if entry.size > _AT_ONCE:
            yield put
            yield from self._read(entry, lambda file: delta(against, file))
            return
        (whole,) = self._read(entry, _pieces)
        assert isinstance(whole, Literal), "it fits into one piece"
        data = list(delta(against, whole.data))
        if _is_smaller(data, whole.data):
            yield put
            yield from data
        else:
            yield _put(entry, How.WHOLE)
            yield whole

    def _read(self, entry: Entry, make: Make) -> Iterator[Data]:
        path = entry.path
        try:
            file = self._root.open(path)
        except (FileNotFoundError, NotADirectoryError, PermissionError, TransactionError) as error:
            raise SourceChanged(
                f"a file to send can no longer be read ({error}); scan again", path
            ) from error
        with file:
            source = _Expected(cast("BufferedReader", file), entry)
            yield from make(source)
            source.check()


def _put(entry: Entry, how: How, source: bytes = b"") -> Put:
    return Put(entry.path, how, entry.mode, entry.mtime_ns, entry.size, entry.digest, source)


def _pieces(file: Readable) -> Iterator[Data]:
    while data := read_fully(file, MAX_LITERAL):
        yield Literal(data)


def _is_smaller(data: Iterable[Data], whole: bytes) -> bool:
    """Whether a delta takes fewer bytes than the file, once both are compressed; a window is already."""
    literals = [op.data for op in data if isinstance(op, Literal)]
    fixed = sum(
        _RECORD if isinstance(op, Copy) else len(op.data) for op in data if not isinstance(op, Literal)
    )
    if (fixed + sum(map(len, literals))) * _CLEARLY <= len(whole):
        return True
    from zstandard import ZstdCompressor

    compressor = ZstdCompressor(level=3)
    return fixed + len(compressor.compress(b"".join(literals))) < len(compressor.compress(whole))


class _Expected:
    """A file that must turn out as its entry says; one that grows without end is given up in time."""

    def __init__(self, file: BufferedReader, entry: Entry) -> None:
        self._file = file
        self._entry = entry
        self._sha256 = sha256()
        self._length = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(size)
        self._seen(data, len(data))
        return data

    def readinto(self, view: memoryview, /) -> int:
        size = self._file.readinto(view)
        self._seen(view[:size], size)
        return size

    def _seen(self, data: bytes | memoryview, size: int) -> None:
        self._sha256.update(data)
        self._length += size
        if self._length > self._entry.size:
            self._refuse()

    def check(self) -> None:
        """SourceChanged unless what was read is what the entry says."""
        if self._length != self._entry.size or self._sha256.digest() != self._entry.digest:
            self._refuse()

    def _refuse(self) -> NoReturn:
        raise SourceChanged("a file changed after it was scanned; scan again", self._entry.path)
