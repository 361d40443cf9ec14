"""One file on its way from data and basis to where it goes. Its SHA-256 is right in the end, or it is a BatchError."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from typing import BinaryIO, Self, TypeVar

from codesync.delta.batch.format import Data, How, Put
from codesync.delta.errors import BatchError, PatchError
from codesync.delta.ops import MAX_LITERAL, Copy, Literal, Window
from codesync.delta.reading import RandomAccess, random_access
from codesync.transaction import Root, TransactionError, UnsafePath

T = TypeVar("T")


class Assembly:
    """Puts one file together; a context manager that closes `out` whatever happens."""

    def __init__(self, put: Put, basis: Root, out: BinaryIO) -> None:
        self._put = put
        self._root = basis
        self._file: BinaryIO | None = None
        self._basis: RandomAccess | None = None
        self._out = out
        self._sha256 = sha256()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        if kind is None:
            self._out.close()
        else:  # a file that is not whole complains when it is closed; the error on its way says more
            with suppress(OSError, TransactionError):
                self._out.close()

    def fill(self, records: Iterator[Data | T]) -> Data | T | None:
        """Write what the records hold until one that is no data, and return that one. BatchError."""
        record = next(records, None)
        while isinstance(record, Data):
            for data in (record.data,) if isinstance(record, Literal) else self._from_basis(record):
                self._sha256.update(data)
                self._out.write(data)
            record = next(records, None)
        if self._sha256.digest() != self._put.digest:
            raise BatchError("a file has another SHA-256 than the batch names", self._put.path)
        return record

    def _from_basis(self, record: Copy | Window) -> Iterator[bytes | memoryview]:
        source = self._put.source if self._put.how == How.MOVED else self._put.path
        try:
            if self._basis is None:
                self._file = self._root.open(source)
                self._basis = random_access(self._file)
            if isinstance(record, Copy):
                yield from _copied(self._basis, record)
            else:
                from codesync.delta.window import unpack_window

                yield from unpack_window(record, self._basis)
        except (FileNotFoundError, NotADirectoryError, PatchError, UnsafePath) as error:
            raise BatchError(f"the batch does not fit its base ({error})", source) from error


def _copied(basis: RandomAccess, copy: Copy) -> Iterator[memoryview]:
    """The bytes of a copy, in pieces that are gone with the next one."""
    offset, left = copy
    if offset + left > basis.size:
        raise PatchError(f"{left} bytes from {offset} on are outside the basis of {basis.size} bytes")
    view = memoryview(bytearray(min(left, MAX_LITERAL)))
    while left:
        size = basis.read_into(view[:left], offset)
        if not size:
            raise PatchError(f"the basis ends {left} bytes before the delta expects it to")
        yield view[:size]
        offset += size
        left -= size
