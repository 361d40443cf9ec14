"""A signature: what one side must know of a basis for the other to make a delta against it.

Two numbers for each block, the last of which may be short: a strong checksum, and a mark to find the block by. The
mark is the block's anchor (`anchors`) where it has one, and else its weak checksum (`checksum`). It holds none of the
basis's content but a few needles of at most eight bytes.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable
from itertools import repeat
from math import isqrt
from struct import Struct
from typing import BinaryIO, NamedTuple

from codesync.delta.anchors import MAX_DELIMITERS, MAX_NEEDLE, NO_ANCHOR, Delimiter, Finder, choose
from codesync.delta.checksum import strong, weak
from codesync.delta.errors import SignatureError
from codesync.delta.reading import READ_SIZE, RandomAccess, filler, random_access

MAGIC = b"cssign\r\n"
VERSION = 2
MAX_BLOCK_SIZE = 1 << 24
_SMALLEST_BLOCK = 512
_LARGEST_BLOCK = 1 << 17
_ANCHORS_FROM = 1 << 17  # bytes of a basis; a smaller one is searched as quickly without
_WIDE_FROM = 1 << 32  # bytes of a basis; its strong sums have 8 bytes instead of 4
_SAMPLES = 40
_SAMPLE_SIZE = 2048
_BLOCKS_AT_ONCE = 512
_REMEMBERED = 4096
_HEAD = Struct("<8sHIQIB")
_DELIMITER = Struct("<BBB8s")
_CHECK = Struct("<Q")


class Signature(NamedTuple):
    """The checksums of a basis of `length` bytes, cut into blocks of `block_size` bytes.

    `strong`, `marks` (arrays) and `anchored` (bytes, 1 where the mark is an anchor) have one number for each block, in
    order. `seed` goes into all strong sums. `edges`: some anchors are not delimiters but edges of runs.
    """

    block_size: int
    length: int
    seed: int
    delimiters: tuple[Delimiter, ...]
    edges: bool
    anchored: bytes
    marks: array[int]
    strong: array[int]

    def __repr__(self) -> str:
        return f"<Signature of {self.length} bytes in {len(self.strong)} blocks of {self.block_size}>"

    def to_bytes(self) -> bytes:
        """The form that docs/batch-format.md describes, about 8 bytes a block."""
        body = (
            _HEAD.pack(
                MAGIC,
                VERSION,
                self.block_size,
                self.length,
                self.seed,
                len(self.delimiters) | self.edges << 7,
            )
            + b"".join(
                _DELIMITER.pack(len(needle), low, high, needle) for needle, low, high in self.delimiters
            )
            + _packed_bits(self.anchored)
            + _raw(self.marks)
            + _raw(self.strong)
        )
        return body + _CHECK.pack(strong(body))

    @classmethod
    def from_bytes(cls, data: bytes) -> Signature:
        """What `to_bytes` gave. SignatureError for anything else."""
        if len(data) < len(MAGIC) + 2 or data[: len(MAGIC)] != MAGIC:
            raise SignatureError("these bytes are no signature")
        version = int.from_bytes(data[len(MAGIC) : len(MAGIC) + 2], "little")
        if version != VERSION:
            raise SignatureError(
                f"signature version {version} is not known here, only {VERSION}; make it anew"
            )
        if len(data) < _HEAD.size + _CHECK.size:
            raise SignatureError("the signature ends too early")
        _, _, block_size, length, seed, kinds = _HEAD.unpack_from(data)
        if not 1 <= block_size <= MAX_BLOCK_SIZE:
            raise SignatureError(f"a block size of {block_size} cannot be")
        kinds, has_edges = kinds & 0x7F, bool(kinds >> 7)
        if kinds > MAX_DELIMITERS:
            raise SignatureError(f"a signature has {MAX_DELIMITERS} delimiters at most, not {kinds}")
        count, code = -(-length // block_size), _strong_code(length)
        at = _HEAD.size + kinds * _DELIMITER.size
        bits, marks = -(-count // 8), 4 * count
        if len(data) != at + bits + marks + array(code).itemsize * count + _CHECK.size:
            raise SignatureError("the signature is not as long as it says")
        if _CHECK.unpack_from(data, len(data) - _CHECK.size)[0] != strong(data[: -_CHECK.size]):
            raise SignatureError("the signature is damaged: its checksum differs")
        anchored = _unpacked_bits(data[at : at + bits], count)
        return cls(
            block_size,
            length,
            seed,
            tuple(map(_delimiter, _DELIMITER.iter_unpack(data[_HEAD.size : at]))),
            has_edges,
            anchored,
            _array("I", data[at + bits : at + bits + marks]),
            _array(code, data[at + bits + marks : -_CHECK.size]),
        )


def _delimiter(fields: tuple[int, int, int, bytes]) -> Delimiter:
    size, low, high, needle = fields
    if not 1 <= size <= MAX_NEEDLE or any(needle[size:]) or low > high:
        raise SignatureError("the signature is damaged: a delimiter that cannot be")
    return Delimiter(needle[:size], low, high)


def _strong_code(length: int) -> str:
    return "Q" if length >= _WIDE_FROM else "I"


def _packed_bits(flags: bytes) -> bytes:
    """Eight flags of 0 and 1 a byte, the first in the lowest bit."""
    number = int(flags[::-1].translate(_DIGITS) or b"0", 2)
    return number.to_bytes(-(-len(flags) // 8), "little")


def _unpacked_bits(data: bytes, count: int) -> bytes:
    digits = f"{int.from_bytes(data, 'little'):0{count}b}".encode()[::-1]
    return digits[:count].translate(_FLAGS)


_DIGITS = bytes.maketrans(b"\0\1", b"01")
_FLAGS = bytes.maketrans(b"01", b"\0\1")


def _raw(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def _array(code: str, data: bytes) -> array[int]:
    numbers: array[int] = array(code)
    numbers.frombytes(data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def default_block_size(length: int) -> int:
    """Bytes per block for a basis of `length` bytes: the greatest 2ⁿ or 3·2ⁿ not above rsync's square root of the length.

    At least 512 bytes and at most 128 KiB. Never above rsync's, so that an edit costs no more than there; such numbers, so
    that what moves by pages or by whole blocks mostly stays aligned.
    """
    root = max(_SMALLEST_BLOCK, min(isqrt(length), _LARGEST_BLOCK))
    half = 1 << root.bit_length() - 2
    return half * (root // half)


def signature(basis: bytes | BinaryIO, block_size: int | None = None, *, seed: int = 0) -> Signature:
    """The signature of a whole basis: bytes, or a binary file (a seekable one is read from its start).

    `block_size`: 1 byte to 16 MiB; None chooses by `default_block_size` and needs a seekable file. `seed`, 0 to 2³²-1:
    another one makes other strong sums, should a delta ever lead to a wrong target. Memory: 256 KiB or one block, and
    the signature, 8 bytes and a bit for each block.
    """
    if block_size is not None and not 1 <= block_size <= MAX_BLOCK_SIZE:
        raise SignatureError(f"a block size must be 1 to {MAX_BLOCK_SIZE} bytes, not {block_size}")
    if isinstance(basis, bytes | bytearray | memoryview) or basis.seekable():
        access = random_access(basis)
        return signature_of(access, block_size or default_block_size(access.size), seed)
    if block_size is None:
        raise SignatureError("the length of what cannot be sought in is not known; name a block size")
    fill = filler(basis)
    return _signed(lambda view, _: fill(view), block_size, seed, ())


def signature_of(access: RandomAccess, block_size: int, seed: int) -> Signature:
    """As `signature`, of whatever can be read anywhere."""
    return _signed(access.read_into, block_size, seed, _delimiters(access, block_size))


def _delimiters(access: RandomAccess, block_size: int) -> tuple[Delimiter, ...]:
    if access.size < _ANCHORS_FROM or block_size < _SMALLEST_BLOCK:
        return ()
    size = min(block_size, _SAMPLE_SIZE)
    step = (access.size - size) // (_SAMPLES - 1)
    return choose([access.read_at(number * step, size) for number in range(_SAMPLES)], block_size)


def _signed(
    read: Callable[[memoryview, int], int], block_size: int, seed: int, delimiters: tuple[Delimiter, ...]
) -> Signature:
    """`read` fills a view with what stands at an offset, which grows as a file is read."""
    blocks = max(1, min(READ_SIZE // block_size, _BLOCKS_AT_ONCE))
    window = bytearray(blocks * block_size)
    view = memoryview(window)
    views = [view[at : at + block_size] for at in range(0, len(window), block_size)]
    marker = _Marker(window, block_size, seed, delimiters)
    strongs: list[int] = []
    length = 0
    while count := read(view, length):
        length += count
        full, rest = divmod(count, block_size)
        found = list(map(strong, views[:full] if full < blocks else views, repeat(seed)))
        marker.mark(found)
        if rest:
            found.append(strong(views[full][:rest], seed))
            marker.mark_tail(full, rest)
        strongs += found
        if count < len(window):
            break
    code = _strong_code(length)
    numbers = array("Q", strongs)
    if code == "I":  # the lower halves
        numbers = array("I", numbers.tobytes())[int(sys.byteorder == "big") :: 2]
    return Signature(
        block_size, length, seed, delimiters, marker.uses_edges, bytes(marker.anchored), marker.marks, numbers
    )


class _Marker:
    """The marks of the blocks in a window that is filled again and again."""

    def __init__(
        self, window: bytearray, block_size: int, seed: int, delimiters: tuple[Delimiter, ...]
    ) -> None:
        self.marks: array[int] = array("I")
        self.anchored = bytearray()
        self._window = window
        self._block_size = block_size
        self._seed = seed
        self._finder = Finder(delimiters) if block_size >= _SMALLEST_BLOCK else None
        self._constants: dict[int, int] = {}  # byte → strong sum of a block of it
        self._weak: dict[int, int] = {}  # by strong sum: blocks without an anchor are often equal

    def mark(self, strongs: list[int]) -> None:
        """The full blocks at the window's start, whose strong sums these are."""
        blocks = range(len(strongs))
        marks: dict[int, int] = {}
        if self._finder is not None:
            varied = [block for block in blocks if not self._is_constant(block, strongs[block])]
            marks = self._finder.mark(self._window, self._block_size, varied)
        if len(marks) == len(strongs):
            self.anchored += b"\1" * len(strongs)
            self.marks.extend(map(marks.__getitem__, blocks))
            return
        for block, number in enumerate(strongs):
            mark = marks.get(block, NO_ANCHOR)
            self.anchored.append(mark != NO_ANCHOR)
            self.marks.append(self._weak_of(block, number) if mark == NO_ANCHOR else mark)

    def _is_constant(self, block: int, number: int) -> bool:
        """Whether the block is one byte again and again, and so has no anchor."""
        size, window = self._block_size, self._window
        byte = window[block * size]
        if byte != window[(block + 1) * size - 1]:
            return False
        if byte not in self._constants:
            self._constants[byte] = strong(bytes([byte]) * size, self._seed)
        return self._constants[byte] == number

    def _weak_of(self, block: int, number: int) -> int:
        known = self._weak.get(number)
        if known is None:
            if len(self._weak) >= _REMEMBERED:
                self._weak.clear()
            start = block * self._block_size
            known = self._weak[number] = weak(bytes(self._window[start : start + self._block_size]))
        return known

    @property
    def uses_edges(self) -> bool:
        """Whether the anchors of some blocks are edges of runs."""
        return self._finder is not None and self._finder.uses_edges

    def mark_tail(self, block: int, length: int) -> None:
        """The short last block, which is only ever looked for at a target's end."""
        start = block * self._block_size
        self.anchored.append(0)
        self.marks.append(weak(bytes(self._window[start : start + length])))
