"""A signature: what one side must know of a basis for the other to make a delta against it.

One weak and one strong checksum for each block; the last block may be short. It holds none of the basis's content.
"""

import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt
from struct import Struct
from typing import BinaryIO

from codesync.delta.checksum import strong, weak
from codesync.delta.errors import SignatureError
from codesync.delta.reading import READ_SIZE as _READ_SIZE
from codesync.delta.reading import as_file, read_fully

MAGIC = b"cssign\r\n"
VERSION = 1
MAX_BLOCK_SIZE = 1 << 24
_SMALLEST_BLOCK = 700
_LARGEST_BLOCK = 1 << 17
_HEAD = Struct("<8sHIQ")
_CHECK = Struct("<Q")
_BLOCK_BYTES = 12


@dataclass(frozen=True, slots=True)
class Signature:
    """The checksums of a basis of `length` bytes, cut into blocks of `block_size` bytes.

    `weak` (array of 32-bit) and `strong` (array of 64-bit) have one number for each block, in order.
    """

    block_size: int
    length: int
    weak: "array[int]"
    strong: "array[int]"

    def to_bytes(self) -> bytes:
        """Little-endian: magic, version, block size, length, all weak sums, all strong sums, XXH3 of all before."""
        body = _HEAD.pack(MAGIC, VERSION, self.block_size, self.length) + _raw(self.weak) + _raw(self.strong)
        return body + _CHECK.pack(strong(body))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Signature":
        """What `to_bytes` gave. SignatureError for anything else."""
        if len(data) < _HEAD.size + _CHECK.size or data[: len(MAGIC)] != MAGIC:
            raise SignatureError("these bytes are no signature")
        _, version, block_size, length = _HEAD.unpack_from(data)
        if version != VERSION:
            raise SignatureError(f"signature version {version} is not known here, only {VERSION}")
        if not 1 <= block_size <= MAX_BLOCK_SIZE:
            raise SignatureError(f"a block size of {block_size} cannot be")
        count = -(-length // block_size)
        if len(data) != _HEAD.size + count * _BLOCK_BYTES + _CHECK.size:
            raise SignatureError("the signature is not as long as it says")
        if _CHECK.unpack_from(data, len(data) - _CHECK.size)[0] != strong(data[: -_CHECK.size]):
            raise SignatureError("the signature is damaged: its checksum differs")
        middle = _HEAD.size + 4 * count
        return cls(
            block_size,
            length,
            _array("I", data[_HEAD.size : middle]),
            _array("Q", data[middle : -_CHECK.size]),
        )


def _raw(numbers: "array[int]") -> bytes:
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def _array(code: str, data: bytes) -> "array[int]":
    numbers: array[int] = array(code)
    numbers.frombytes(data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def default_block_size(length: int) -> int:
    """Bytes per block for a basis of `length` bytes, by rsync's rule.

    The square root of the length, rounded down to a multiple of 8, but at least 700 and at most 128 KiB: signature and
    the block that an edit costs then grow alike.
    """
    return max(_SMALLEST_BLOCK, min(isqrt(length) & ~7, _LARGEST_BLOCK))


def signature(basis: bytes | BinaryIO, block_size: int | None = None) -> Signature:
    """The signature of a whole basis: bytes, or a binary file (a seekable one is read from its start).

    `block_size`: 1 … 16 MiB, in bytes; None chooses by `default_block_size` and needs a seekable file.
    """
    file = as_file(basis)
    if block_size is None:
        block_size = default_block_size(file.seek(0, 2))
    if not 1 <= block_size <= MAX_BLOCK_SIZE:
        raise SignatureError(f"a block size must be 1 to {MAX_BLOCK_SIZE} bytes, not {block_size}")
    if file.seekable():
        file.seek(0)
    weaks: array[int] = array("I")
    strongs: array[int] = array("Q")
    length = 0
    for block in _blocks(file, block_size):
        weaks.append(weak(block))
        strongs.append(strong(block))
        length += len(block)
    return Signature(block_size, length, weaks, strongs)


def _blocks(file: BinaryIO, size: int) -> Iterator[bytes]:
    whole = size * max(1, _READ_SIZE // size)
    while chunk := read_fully(file, whole):
        for start in range(0, len(chunk), size):
            yield chunk[start : start + size]
