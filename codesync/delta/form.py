"""The bytes a delta travels as, version 2; `docs/batch-format.md` describes every field.

Copies and literals are written a group at a time, of 256 KiB at most, and packed where zstd makes that smaller. Windows
are compressed already. Nothing that is read is believed: every size is checked before memory is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from typing import BinaryIO

from codesync.delta.errors import PatchError
from codesync.delta.ops import MAX_LITERAL, Copy, Literal, Op, Window
from codesync.delta.packing import Packer, Unpacker
from codesync.delta.reading import Readable, read_fully

MAGIC = b"csdelt\r\n"
VERSION = 2
_HEAD = MAGIC + VERSION.to_bytes(2, "little")
_END, _COPY, _LITERAL, _WINDOW, _PACKED = range(5)
_MAX_GROUP = MAX_LITERAL + 16  # a literal of full size with what stands before it
_MAX_PACKED = _MAX_GROUP + 4096  # what zstd makes of that at worst
_MOST: dict[type, int] = {
    Literal: MAX_LITERAL,
    Window: 1 << 20,
}  # bytes of their data; who unpacks a window is stricter
_MAX_NUMBER = 9  # bytes of a number below 2⁶³
_DIGEST_SIZE = 16
_LONG, _MUCH = 64, 1 << 12


class DeltaWriter:
    """Writes operations to `out`; the delta is whole only after `finish`. Memory: a group, and what packing takes.

    `expected`: bytes the target may have, if that is known; it decides about nothing but how well literals are packed.
    """

    def __init__(self, out: BinaryIO, expected: int = 0) -> None:
        self._write = out.write
        self._packer = Packer(expected)
        self._group: list[bytes] = []
        self._size = 0  # of the group
        self._at = 0  # where in the basis the last copy ended
        self._length = 0  # of the target
        self._write(_HEAD)

    def put(self, op: Op) -> None:
        """The next operation. ValueError: it stands for nothing, or is too large to be read again."""
        size, most = (op.length, op.length) if isinstance(op, Copy) else (len(op.data), _MOST[type(op)])
        if not 1 <= size <= most:
            raise ValueError(f"an operation of {size} bytes cannot be written")
        if isinstance(op, Copy):
            far = op.offset - self._at
            self._at = op.offset + size
            self._gather(b"%c%b%b" % (_COPY, _number(far * 2 if far >= 0 else -far * 2 - 1), _number(size)))
        elif isinstance(op, Literal):
            self._gather(b"%c%b" % (_LITERAL, _number(size)), op.data)
        else:
            self._flush()
            self._write(b"%c%b%b" % (_WINDOW, _number(op.size), _number(size)))
            self._write(op.data)
        self._length += length_of(op)

    def finish(self, digest: bytes) -> int:
        """The end; `digest` is the target's XXH3-128. Returns the target's length."""
        self._flush()
        self._write(b"%c%b%b" % (_END, _number(self._length), digest))
        return self._length

    def _gather(self, *parts: bytes) -> None:
        size = sum(map(len, parts))
        if self._size + size > _MAX_GROUP:
            self._flush()
        self._group += parts
        self._size += size

    def _flush(self) -> None:
        group = b"".join(self._group) if self._is_worth_a_try() else b""
        if group and self._packer.pays(group):
            packed = self._packer.pack(group, self._length)
            self._write(b"%c%b%b" % (_PACKED, _number(len(group)), _number(len(packed))))
            self._write(packed)
        else:
            for part in self._group:
                self._write(part)
        self._group, self._size = [], 0

    def _is_worth_a_try(self) -> bool:
        """Some copies with a few bytes between them are not: who unpacks has to import zstd, which takes its time."""
        return self._size >= _MUCH or any(len(part) >= _LONG for part in self._group)


def length_of(op: Op) -> int:
    """Bytes of the target that it stands for."""
    return op.length if isinstance(op, Copy) else len(op.data) if isinstance(op, Literal) else op.size


def _number(value: int) -> bytes:
    """Unsigned LEB128."""
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


class DeltaReader:
    """The operations of a delta that a `DeltaWriter` wrote, in bounded memory.

    Iterate once. `digest` (the target's XXH3-128, 16 bytes) and `length` (the target's, in bytes) are there when the
    iteration has ended. PatchError for anything that is not a whole delta. Damage that leaves it one, as another byte in
    a literal does, shows by the digest: `patch` checks it.
    """

    def __init__(self, file: Readable) -> None:
        self.digest = b""
        self.length = 0
        self._file = file
        self._at = 0
        head = read_fully(file, len(_HEAD))
        if head[: len(MAGIC)] != MAGIC:
            raise PatchError("these bytes are no delta")
        if len(head) == len(_HEAD) and head != _HEAD:
            version = int.from_bytes(head[len(MAGIC) :], "little")
            raise PatchError(f"delta version {version} is not known here, only {VERSION}; make it anew")
        if len(head) < len(_HEAD):
            raise PatchError("the delta ends too early")

    def __iter__(self) -> Iterator[Op]:
        take = _taker(self._file)
        length = 0
        for op in self._operations(take):
            length += length_of(op)
            yield op
        if length != _take_number(take):
            raise PatchError("the delta is damaged: its operations make another length than it says")
        digest = take(_DIGEST_SIZE)
        if self._file.read(1):
            raise PatchError("something follows the end of the delta")
        self.digest, self.length = digest, length

    def _operations(self, take: Callable[[int], bytes]) -> Iterator[Op]:
        unpacker = Unpacker()
        while (tag := take(1)[0]) != _END:
            if tag != _PACKED:
                yield self._operation(tag, take)
                continue
            size = _take_number(take, _MAX_GROUP)
            data = take(_take_number(take, _MAX_PACKED))
            group = BytesIO(unpacker.unpack(data, size))
            take_packed = _taker(group)
            while packed_tag := group.read(1):
                yield self._operation(packed_tag[0], take_packed)

    def _operation(self, tag: int, take: Callable[[int], bytes]) -> Op:
        if tag == _COPY:
            far, length = _take_number(take), _take_number(take)
            offset = self._at + (-(far + 1 >> 1) if far & 1 else far >> 1)
            if offset < 0 or not length:
                raise PatchError("the delta is damaged: a copy from before the basis, or of nothing")
            self._at = offset + length
            return Copy(offset, length)
        if tag == _LITERAL:
            return Literal(take(_take_number(take, _MOST[Literal])))
        if tag == _WINDOW:
            size = _take_number(take, 1 << 63)
            return Window(size, take(_take_number(take, _MOST[Window])))
        raise PatchError(f"the delta is damaged: no operation is called {tag}")


def _taker(file: Readable) -> Callable[[int], bytes]:
    """A function that returns the next so many bytes. PatchError where there are fewer."""

    def take(size: int) -> bytes:
        data = read_fully(file, size)
        if len(data) < size:
            raise PatchError("the delta ends too early")
        return data

    return take


def _take_number(take: Callable[[int], bytes], most: int | None = None) -> int:
    """LEB128 as short as can be; where `most` is given, 1 to so many. PatchError."""
    value = 0
    for position in range(_MAX_NUMBER):
        byte = take(1)[0]
        value |= (byte & 0x7F) << 7 * position
        if byte < 0x80:
            if (position and not byte) or (most is not None and not 1 <= value <= most):
                break
            return value
    raise PatchError("the delta is damaged: a number that cannot be")
