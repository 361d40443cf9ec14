"""Reading a batch: front to back, once, in bounded memory.

Nothing is believed before it is checked: sizes against `Limits`, order and sums record by record, and at the end
counts and digests. Only what is iterated to its end without BatchError is a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

import msgpack
import zstandard
from xxhash import xxh3_64

from codesync.delta.batch.format import (
    CHECK,
    HEAD,
    MAGIC,
    VERSION,
    Change,
    Delete,
    Header,
    How,
    Limits,
    Put,
    Record,
    Symlink,
    Track,
    Trailer,
    Untrack,
    decode,
)
from codesync.delta.errors import BatchError, LimitExceeded
from codesync.delta.ops import MAX_LITERAL, Copy, Literal
from codesync.delta.reading import Readable, read_fully

# 4 bytes of a zstd frame can stand for 128 KiB: so little is given in at once that what comes out stays below 9 MiB
_INFLATED_AT_ONCE = 256
_FED_AT_ONCE = 1 << 16


def read_batch(file: Readable, limits: Limits | None = None) -> BatchReader:
    """Read the header; the records come as the reader is iterated. BatchError, LimitExceeded."""
    return BatchReader(file, limits or Limits())


class BatchReader:
    """`header`, and, by iterating once, the records in their order; a `Put` is followed by its data.

    The iteration ends only after counts and digests have been verified; `trailer` is set then.
    """

    def __init__(self, file: Readable, limits: Limits) -> None:
        self.trailer: Trailer | None = None
        self.wire_bytes = 0
        self._limits = limits
        self._stream = _Inflated(file, limits)
        self._records = _unpacked(self._stream, limits)
        header, raw = next(self._records, (None, b""))
        if not isinstance(header, Header):
            raise BatchError("the batch does not begin with a header")
        self.header = header
        self._sha256 = sha256(raw)

    def __iter__(self) -> Iterator[Record]:
        order, sums = _Order(), _Sums(self._limits)
        for record, raw in self._records:
            if isinstance(record, Trailer):
                sums.check(record, self._sha256.digest())
                break
            if isinstance(record, Header):
                raise BatchError("the batch has a second header")
            if not isinstance(record, Literal | Copy):
                order.check(record)
            if isinstance(record, Track | Untrack) and not self.header.tracked_start:
                raise BatchError("the batch tracks a path but no set of paths to start from", record.path)
            sums.add(record)
            self._sha256.update(raw)
            yield record
        else:
            raise BatchError("the batch ends too early")
        if next(self._records, None) is not None:
            raise BatchError("something follows the trailer of the batch")
        self.trailer = record
        self.wire_bytes = self._stream.wire_bytes


class _Inflated:
    """The decompressed stream, in pieces; when it has ended, so has the file, and its checksum was right."""

    def __init__(self, file: Readable, limits: Limits) -> None:
        self._file = file
        self._limits = limits
        self._check = xxh3_64()
        self.wire_bytes = 0
        head = read_fully(file, HEAD.size)
        if len(head) < HEAD.size or head[: len(MAGIC)] != MAGIC:
            raise BatchError("these bytes are no batch")
        if (version := HEAD.unpack(head)[1]) != VERSION:
            raise BatchError(f"batch version {version} is not known here, only {VERSION}")
        self._count(head)

    def _count(self, data: bytes) -> None:
        self._check.update(data)
        self.wire_bytes += len(data)

    def __iter__(self) -> Iterator[bytes]:
        frame = read_fully(self._file, _INFLATED_AT_ONCE)
        self._check_window(frame)
        inflater = zstandard.ZstdDecompressor(max_window_size=self._limits.max_window).decompressobj()
        while frame:
            data = inflater.decompress(frame)
            rest = inflater.unused_data
            self._count(frame[: len(frame) - len(rest)])
            if data:
                yield data
            if inflater.eof:
                return self._finish(rest)
            frame = self._file.read(_INFLATED_AT_ONCE)
        raise BatchError("the batch ends too early")

    def _check_window(self, frame: bytes) -> None:
        window = zstandard.get_frame_parameters(frame).window_size
        if window > self._limits.max_window:
            raise _exceeded("max_window", self._limits.max_window)

    def _finish(self, rest: bytes) -> None:
        rest += read_fully(self._file, CHECK.size + 1 - len(rest)) if len(rest) <= CHECK.size else b""
        if len(rest) < CHECK.size:
            raise BatchError("the batch ends too early")
        if len(rest) > CHECK.size:
            raise BatchError("something follows the end of the batch")
        if CHECK.unpack(rest)[0] != self._check.intdigest():
            raise BatchError("the batch is damaged: its checksum differs")
        self.wire_bytes += len(rest)


def _unpacked(stream: _Inflated, limits: Limits) -> Iterator[tuple[Record | Header | Trailer, bytes]]:
    """Each record with its bytes; whatever zstd and msgpack find wrong is a BatchError."""
    unpacker = msgpack.Unpacker(
        use_list=False,
        max_buffer_size=limits.max_record + _FED_AT_ONCE,
        max_bin_len=max(MAX_LITERAL, limits.max_path),
        max_str_len=1024,
        max_array_len=16,
        max_map_len=0,
        max_ext_len=0,
    )
    pending = bytearray()
    seen = 0
    try:
        for piece in stream:
            for start in range(0, len(piece), _FED_AT_ONCE):
                part = piece[start : start + _FED_AT_ONCE]
                unpacker.feed(part)
                pending += part
                for raw in unpacker:
                    size = unpacker.tell() - seen
                    seen += size
                    if size > limits.max_record:
                        raise _exceeded("max_record", limits.max_record)
                    yield decode(raw), bytes(pending[:size])
                    del pending[:size]
    except msgpack.BufferFull as error:
        raise _exceeded("max_record", limits.max_record) from error
    except (zstandard.ZstdError, msgpack.UnpackException, ValueError, TypeError) as error:
        raise BatchError(f"the batch is damaged: {error}") from error
    if pending:
        raise BatchError("the batch ends in the middle of a record")


_PHASES: dict[type, int] = {Delete: 1, Untrack: 3, Track: 4}  # all else: 2


def _exceeded(limit: str, value: int, path: bytes | None = None) -> LimitExceeded:
    return LimitExceeded(f"the batch exceeds {limit}, which is {value} here", limit, path)


class _Order:
    """Deletes from the last path to the first, then what stands, untracked and tracked paths, each in path order."""

    def __init__(self) -> None:
        self._phase = 0
        self._last = b""
        self._closed: set[bytes] = set()  # deleted, or no directory: nothing may stand below
        self._open = b""  # the last parent that was found to be fine

    def check(self, record: Change) -> None:
        """BatchError unless `record` may come next."""
        path, phase = record.path, _PHASES.get(type(record), 2)
        if phase == self._phase:
            in_order = path < self._last if phase == 1 else path > self._last
        else:
            in_order = phase > self._phase
        if not in_order:
            raise BatchError("the records of the batch are out of order or repeated", path)
        self._phase, self._last = phase, path
        if phase == 2:
            self._check_place(path)
        if phase == 1 or isinstance(record, Put | Symlink):
            self._closed.add(path)

    def _check_place(self, path: bytes) -> None:
        if path in self._closed:
            raise BatchError("the batch both deletes and puts a path", path)
        parent = path[: max(0, path.rfind(b"/"))]
        while parent and parent != self._open:
            if parent in self._closed:
                raise BatchError("the batch puts something below what is no directory", path)
            parent = parent[: max(0, parent.rfind(b"/"))]
        self._open = path[: max(0, path.rfind(b"/"))]


class _Sums:
    """What the batch has declared and delivered so far, against the limits and against each other."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._records = self._files = self._path_bytes = self._total_bytes = 0
        self._literal_bytes = self._copied_bytes = 0
        self._put: Put | None = None
        self._missing = 0  # bytes of that put's data

    def add(self, record: Record) -> None:
        """BatchError, LimitExceeded unless `record` fits what came before."""
        self._records += 1
        if isinstance(record, Literal):
            self._literal_bytes += len(record.data)
            self._take(len(record.data))
        elif isinstance(record, Copy):
            self._copied_bytes += record.length
            if self._put and self._put.how == How.WHOLE:
                raise BatchError("a whole file copies from a basis", self._put.path)
            self._take(record.length)
        else:
            self._check_whole()
            self._open(record)

    def _take(self, length: int) -> None:
        if self._put is None or length > self._missing:
            raise BatchError("the batch holds more data than it declares", self._put and self._put.path)
        self._missing -= length

    def _check_whole(self) -> None:
        if self._missing:
            assert self._put is not None
            raise BatchError(f"{self._missing} bytes of a file are missing in the batch", self._put.path)

    def _open(self, record: Change) -> None:
        limits, path = self._limits, record.path
        strings = (path, getattr(record, "source", b""), getattr(record, "target", b""))
        if max(map(len, strings)) > limits.max_path:
            raise _exceeded("max_path", limits.max_path, path)
        self._files += 1
        self._path_bytes += sum(map(len, strings))
        self._put = record if isinstance(record, Put) else None
        self._missing = self._put.size if self._put else 0
        self._total_bytes += self._missing
        for value, limit in (
            (self._files, "max_files"),
            (self._path_bytes, "max_path_bytes"),
            (self._total_bytes, "max_total_bytes"),
        ):
            if value > getattr(limits, limit):
                raise _exceeded(limit, getattr(limits, limit), path)

    def check(self, trailer: Trailer, digest: bytes) -> None:
        """BatchError unless the trailer says what was seen."""
        self._check_whole()
        if trailer != (self._records, self._literal_bytes, self._copied_bytes, digest):
            raise BatchError("the batch is damaged: its trailer says something else than its records")
