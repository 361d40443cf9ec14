"""How the engine writes: what a target is made of is gathered, hashed and written, 256 KiB at a time.

A file of the operating system's is written past its object and reserves its room ahead, anything else through its `write`.
Nothing here reads back, and nothing is synced: that is the business of whoever owns the place.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from io import BufferedRandom, BufferedWriter, FileIO
from stat import S_ISREG
from typing import BinaryIO, Protocol

from codesync.delta.reading import RandomAccess

WRITE_SIZE = 1 << 18
_LEAST_AHEAD = 1 << 20
_MOST_AHEAD = 1 << 26


class Hash(Protocol):
    """What hashlib and xxhash have in common, as far as it is needed."""

    def update(self, data: memoryview, /) -> object: ...


class Output:
    """Takes the pieces of a target in their order. `length`: bytes so far. Ended by `finish`, without which some are missing.

    Memory: 256 KiB. What `out` raises comes out.
    """

    def __init__(self, out: BinaryIO, hashes: list[Hash]) -> None:
        self.length = 0
        self._buffer = memoryview(bytearray(WRITE_SIZE))
        self._filled = 0
        self._updates: list[Callable[[memoryview], object]] = [hash_.update for hash_ in hashes]
        self._place = _place(out)

    def put(self, data: bytes) -> None:
        """The next bytes, as they are."""
        view = memoryview(data)
        while view:
            part = view[: WRITE_SIZE - self._filled]
            if len(part) == WRITE_SIZE:
                self._write(part)
            else:
                self._buffer[self._filled : self._filled + len(part)] = part
                self._took(len(part))
            view = view[len(part) :]

    def copy(self, basis: RandomAccess, offset: int, length: int) -> int:
        """The next bytes are `length` of `basis` at `offset`; returns how many of them are missing there: none, if it is right."""
        while length:
            size = min(length, WRITE_SIZE - self._filled)
            view = self._buffer if size == WRITE_SIZE else self._buffer[self._filled : self._filled + size]
            if (count := basis.read_into(view, offset)) < size:
                return length - count
            self._took(size)
            offset += size
            length -= size
        return 0

    def finish(self) -> int:
        """Write what is left, and return the length of it all."""
        if self._filled:
            self._write(self._buffer[: self._filled])
            self._filled = 0
        self._place.finish()
        return self.length

    def _took(self, size: int) -> None:
        self._filled += size
        if self._filled == WRITE_SIZE:
            self._write(self._buffer)
            self._filled = 0

    def _write(self, view: memoryview) -> None:
        for update in self._updates:
            update(view)
        self._place.write(view)
        self.length += len(view)


class _Place(Protocol):
    def write(self, view: memoryview, /) -> object: ...

    def finish(self) -> None: ...


def _place(out: BinaryIO) -> _Place:
    """`out` as it can be written fastest. Only the types themselves: what wraps a file may do more than pass it on."""
    raw = getattr(out, "raw", None) if type(out) in {BufferedWriter, BufferedRandom} else out
    if type(raw) is FileIO and S_ISREG(os.fstat(raw.fileno()).st_mode):
        return _Descriptor(out, raw.fileno())
    return _File(out)


class _File:
    """Any binary file."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def write(self, view: memoryview) -> None:
        while view:
            count = self._out.write(view)
            view = view[len(view) if count is None else count :]

    def finish(self) -> None:
        """There is nothing to put in order."""


class _Descriptor:
    """A regular file, from the position of `out` on, which follows at the end."""

    def __init__(self, out: BinaryIO, descriptor: int) -> None:
        self._out = out
        self._descriptor = descriptor
        out.flush()
        self._size = os.fstat(descriptor).st_size
        self._at = self._start = out.tell()
        os.lseek(descriptor, self._at, os.SEEK_SET)
        self._reserved = 0
        self._reserves = not fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND

    def write(self, view: memoryview) -> None:
        if self._reserves and self._at > self._start and self._at + len(view) > self._reserved:
            self._reserve(self._at + max(_LEAST_AHEAD, min(self._at - self._start, _MOST_AHEAD)))
        while view:
            count = os.write(self._descriptor, view)
            self._at += count
            view = view[count:]

    def finish(self) -> None:
        if self._reserved > max(self._at, self._size):
            os.ftruncate(self._descriptor, max(self._at, self._size))
        self._out.seek(os.lseek(self._descriptor, 0, os.SEEK_CUR))

    def _reserve(self, end: int) -> None:
        # The C library imitates what a file system cannot do by a write into each block, which costs more than it
        # saves. It does not where a descriptor appends, so this one does for the moment.
        flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL)
        fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags | os.O_APPEND)
        try:
            os.posix_fallocate(self._descriptor, self._at, end - self._at)
            self._reserved = end
        except OSError:  # it cannot, or has no room for more than is needed: writing will tell
            self._reserves = False
        finally:
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags)
