"""How the engine reads: bytes, files and whatever else can be read, all alike, never more than asked for.

Nothing is mapped into memory: a process that maps a file dies when another one cuts it short.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from io import BytesIO, FileIO
from typing import BinaryIO, Protocol

READ_SIZE = 1 << 18


class Readable(Protocol):
    """Whatever can be read once, from front to back."""

    def read(self, size: int, /) -> bytes: ...


class RandomAccess(Protocol):
    """Whatever can be read anywhere; `size` in bytes is that of the moment it was made."""

    size: int

    def read_into(self, view: memoryview, offset: int) -> int:
        """Fill `view` with what stands at `offset`; return how many bytes there were, fewer only at the end."""

    def read_at(self, offset: int, length: int) -> bytes:
        """The `length` bytes at `offset`, fewer only at the end."""


def as_file(source: bytes | BinaryIO) -> BinaryIO:
    """Bytes as a file; a file as it is."""
    return BytesIO(source) if isinstance(source, bytes | bytearray | memoryview) else source


def as_readable(source: bytes | Readable) -> Readable:
    """Bytes as a file; a file as it is."""
    return BytesIO(source) if isinstance(source, bytes | bytearray | memoryview) else source


def read_fully(file: Readable, size: int) -> bytes:
    """The next `size` bytes, fewer only at the end, however little each read returns."""
    data = file.read(size)
    if len(data) == size or not data:
        return data
    parts = [data]
    size -= len(data)
    while size and (data := file.read(size)):
        parts.append(data)
        size -= len(data)
    return b"".join(parts)


def filler(source: Readable) -> Callable[[memoryview], int]:
    """A function that fills a view with what comes next and returns how much that was: less only at the end."""
    readinto: Callable[[memoryview], int] | None = getattr(source, "readinto", None)
    if readinto is None:
        return lambda view: _copied(read_fully(source, len(view)), view)
    fill = readinto

    def filled(view: memoryview) -> int:
        done = 0
        while done < len(view) and (count := fill(view[done:])):
            done += count
        return done

    return filled


def _copied(data: bytes, view: memoryview) -> int:
    view[: len(data)] = data
    return len(data)


def random_access(source: bytes | BinaryIO) -> RandomAccess:
    """Bytes, or a seekable binary file; a file of the operating system's is read past its object's buffer and position."""
    if isinstance(source, bytes | bytearray | memoryview):
        return _Bytes(memoryview(source).cast("B"))
    # others that know a descriptor may give something else than what is behind it: an archive's member, say
    if isinstance(source, FileIO) or isinstance(getattr(source, "raw", None), FileIO):
        if source.writable():
            source.flush()  # what is still in the object's buffer cannot be read through the descriptor
        return _Descriptor(source.fileno())
    return _File(source)


class _Bytes:
    def __init__(self, view: memoryview) -> None:
        self._view = view
        self.size = len(view)

    def read_into(self, view: memoryview, offset: int) -> int:
        data = self._view[offset : offset + len(view)]
        view[: len(data)] = data
        return len(data)

    def read_at(self, offset: int, length: int) -> bytes:
        return bytes(self._view[offset : offset + length])


class _Descriptor:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def read_into(self, view: memoryview, offset: int) -> int:
        size = done = os.preadv(self._descriptor, [view], offset)
        while size and done < len(view):
            size = os.preadv(self._descriptor, [view[done:]], offset + done)
            done += size
        return done

    def read_at(self, offset: int, length: int) -> bytes:
        data = os.pread(self._descriptor, length, offset)
        if len(data) == length or not data:
            return data
        return data + self.read_at(offset + len(data), length - len(data))


class _File:
    """Any other seekable file: one that is not the operating system's own."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, 2)

    def read_into(self, view: memoryview, offset: int) -> int:
        return _copied(self.read_at(offset, len(view)), view)

    def read_at(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        return read_fully(self._file, length)
