"""Reading a batch: front to back, once, in bounded memory.

Nothing is believed before it is checked: sizes against `Limits`, order and sums record by record, and at the end
counts and checksum. Only what is iterated to its end without BatchError is a batch.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgpack
import zstandard
from xxhash import xxh3_64

from codesync.delta.batch.format import (
    CHECK,
    HEAD,
    MAGIC,
    MAGICLESS,
    VERSION,
    Data,
    Header,
    Limits,
    Record,
    Track,
    Trailer,
    Untrack,
    decode,
)
from codesync.delta.batch.order import Order, Sums, exceeded
from codesync.delta.errors import BatchError
from codesync.delta.reading import Readable, read_fully
from codesync.delta.window import MAX_DATA

_BLOCK_HEAD = (
    3  # bytes of a zstd block's header: from the lowest bit on whether it is the last, its kind, its size
)
_REPEATED = 1  # the kind of block that is one byte, as many times as its size says
_MAX_BLOCK = 1 << 17
_FED_AT_ONCE = 1 << 16


def read_batch(file: Readable, limits: Limits | None = None) -> BatchReader:
    """Read the header; the records come as the reader is iterated. BatchError, LimitExceeded."""
    return BatchReader(file, limits or Limits())


class BatchReader:
    """`header`, and, by iterating once, the records in their order; a `Put` is followed by its data.

    The iteration ends only after counts and checksum have been verified; `trailer` is set then, and `wire_bytes`.
    `literal_bytes` were sent so far, `copied_bytes` come from the base; what moves is not in them.
    """

    def __init__(self, file: Readable, limits: Limits) -> None:
        self.trailer: Trailer | None = None
        self.wire_bytes = 0
        self._sums = Sums(limits)
        self._stream = _Inflated(file, limits)
        self._records = _unpacked(self._stream, limits)
        header = next(self._records, None)
        if not isinstance(header, Header):
            raise BatchError("the batch does not begin with a header")
        self.header = header

    @property
    def literal_bytes(self) -> int:
        """Bytes of data and of windows' data."""
        return self._sums.literal_bytes

    @property
    def copied_bytes(self) -> int:
        """Bytes of content that copies, and windows beyond their data, take from the base."""
        return self._sums.copied_bytes

    def count(self, path: bytes, size: int) -> None:
        """Hold one more path, with a file of `size` bytes or 0, against the limits: a move carries it. LimitExceeded."""
        self._sums.count(path, size)

    def __iter__(self) -> Iterator[Record]:
        order, sums = Order(), self._sums
        for record in self._records:
            if isinstance(record, Trailer):
                if record != sums.trailer():
                    raise BatchError("the batch is damaged: its trailer says something else than its records")
                break
            if isinstance(record, Header):
                raise BatchError("the batch has a second header")
            if not isinstance(record, Data):
                order.check(record)
            if isinstance(record, Track | Untrack) and not self.header.tracked_start:
                raise BatchError("the batch tracks a path but no set of paths to start from", record.path)
            sums.add(record)
            yield record
        else:
            raise BatchError("the batch ends too early")
        if next(self._records, None) is not None:
            raise BatchError("something follows the trailer of the batch")
        self.trailer = record
        self.wire_bytes = self._stream.wire_bytes


class _Inflated:
    """The decompressed stream, in pieces; when it has ended, so has the file, and its checksum was right.

    zstd is given one block of its frame at a time (RFC 8878, 3.1.1.2): so what comes out at once is at most 128 KiB,
    whatever comes in, and nothing behind the frame is read too early.
    """

    def __init__(self, file: Readable, limits: Limits) -> None:
        self._file = file
        self._limits = limits
        self._check = xxh3_64()
        self.wire_bytes = 0
        magic, version = HEAD.unpack(self._take(HEAD.size, "these bytes are no batch"))
        if magic != MAGIC:
            raise BatchError("these bytes are no batch")
        if version != VERSION:
            raise BatchError(
                f"batch version {version} is not known here, only {VERSION}: "
                f"update the codesync that {'wrote' if version < VERSION else 'reads'} it"
            )

    def _take(self, size: int, otherwise: str = "the batch ends too early") -> bytes:
        data = read_fully(self._file, size)
        if len(data) < size:
            raise BatchError(otherwise)
        self._check.update(data)
        self.wire_bytes += size
        return data

    def __iter__(self) -> Iterator[bytes]:
        limit = self._limits.max_window
        inflater = zstandard.ZstdDecompressor(max_window_size=limit, format=MAGICLESS).decompressobj()
        head = self._take(2)
        if head[0]:
            raise BatchError("the batch is damaged: its frame is of a form that no batch has")
        if _window(head[1]) > limit:
            raise exceeded("max_window", limit)
        inflater.decompress(head)
        last = 0
        while not last:
            head = self._take(_BLOCK_HEAD)
            fields = int.from_bytes(head, "little")
            last, kind, size = fields & 1, fields >> 1 & 3, fields >> 3
            if size > _MAX_BLOCK:
                raise BatchError("the batch is damaged: a block of its frame is too large")
            yield inflater.decompress(head + self._take(1 if kind == _REPEATED else size))
        self._finish()

    def _finish(self) -> None:
        check = self._check.intdigest()
        if CHECK.unpack(self._take(CHECK.size))[0] != check:
            raise BatchError("the batch is damaged: its checksum differs")
        if self._file.read(1):
            raise BatchError("something follows the end of the batch")


def _window(descriptor: int) -> int:
    """Bytes of a frame's window, from the byte that says so (RFC 8878, 3.1.1.1.2)."""
    base = 1 << 10 + (descriptor >> 3)
    return base + base // 8 * (descriptor & 7)


def _unpacked(stream: _Inflated, limits: Limits) -> Iterator[Record | Header | Trailer]:
    """The records; whatever zstd and msgpack find wrong is a BatchError."""
    unpacker = msgpack.Unpacker(
        use_list=False,
        max_buffer_size=limits.max_record + _FED_AT_ONCE,
        max_bin_len=max(MAX_DATA, limits.max_path),
        max_str_len=1024,
        max_array_len=16,
        max_map_len=0,
        max_ext_len=0,
    )
    fed = seen = 0
    try:
        for piece in stream:
            for start in range(0, len(piece), _FED_AT_ONCE):
                part = piece[start : start + _FED_AT_ONCE]
                unpacker.feed(part)
                fed += len(part)
                for raw in unpacker:
                    if unpacker.tell() - seen > limits.max_record:
                        raise exceeded("max_record", limits.max_record)
                    seen = unpacker.tell()
                    yield decode(raw)
    except msgpack.BufferFull as error:
        raise exceeded("max_record", limits.max_record) from error
    except (zstandard.ZstdError, msgpack.UnpackException, ValueError, TypeError) as error:
        raise BatchError(f"the batch is damaged: {error}") from error
    if fed > seen:
        raise BatchError("the batch ends in the middle of a record")
