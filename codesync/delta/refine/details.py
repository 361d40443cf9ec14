"""The remote's answer: checksums of small pieces of some ranges of its basis, and the form they travel in."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from math import isqrt
from struct import Struct
from typing import BinaryIO, NamedTuple

from codesync.delta.checksum import strong
from codesync.delta.errors import SignatureError
from codesync.delta.ops import MAX_LITERAL
from codesync.delta.reading import RandomAccess, random_access
from codesync.delta.refine.gaps import MOST_TIMES, Range
from codesync.delta.signature import Signature, default_block_size, signature_of

MAGIC = b"csdetl\r\n"
VERSION = 1
MAX_RANGES = 1 << 20
SUM_BYTES = 3
SUM_MASK = (1 << 8 * SUM_BYTES) - 1
_HEAD = Struct("<8sHIII")
_LENGTH = Struct("<I")
_CHECK = Struct("<Q")
_SMALLEST_PIECE = 64
_LARGEST_PIECE = 1024
_SMALLEST_BLOCK = 512
_FINER = 4


class Details(NamedTuple):
    """What the remote says of some ranges of its basis.

    `sums`: for each range that is no orphan the checksums of its pieces, 3 bytes each. `orphans`: the signature of all orphans
    one after the other, or None. `seed` goes into all checksums.
    """

    seed: int
    sums: tuple[bytes, ...]
    orphans: Signature | None

    def to_bytes(self) -> bytes:
        """The form that docs/batch-format.md describes."""
        orphans = self.orphans.to_bytes() if self.orphans else b""
        parts = [_HEAD.pack(MAGIC, VERSION, self.seed, len(self.sums), len(orphans)), orphans]
        parts += [_LENGTH.pack(len(sums)) + sums for sums in self.sums]
        body = b"".join(parts)
        return body + _CHECK.pack(strong(body))

    @classmethod
    def from_bytes(cls, data: bytes) -> Details:
        """What `to_bytes` gave. SignatureError for anything else."""
        end = len(data) - _CHECK.size
        if end < _HEAD.size or data[: len(MAGIC)] != MAGIC:
            raise SignatureError("these bytes are no details of a basis")
        _, version, seed, count, size = _HEAD.unpack_from(data)
        if version != VERSION:
            raise SignatureError(f"details of version {version} are not known here, only {VERSION}")
        if _CHECK.unpack_from(data, end)[0] != strong(data[:end]):
            raise SignatureError("the details of the basis are damaged: their checksum differs")
        at = _HEAD.size + size
        orphans = Signature.from_bytes(data[_HEAD.size : at]) if size else None
        sums = []
        while at + _LENGTH.size <= end:
            start = at + _LENGTH.size
            at = start + _LENGTH.unpack_from(data, at)[0]
            sums.append(data[start:at])
        if at != end or len(sums) != count:
            raise SignatureError("the details of the basis are not as long as they say")
        return cls(seed, tuple(sums), orphans)


def piece_size(length: int) -> int:
    """Bytes of the pieces of a range of `length` bytes: as many that its sums and the piece an edit costs are alike."""
    root = isqrt(SUM_BYTES * length)
    return max(_SMALLEST_PIECE, min(1 << max(0, root.bit_length() - 1), _LARGEST_PIECE))


def details(basis: bytes | BinaryIO, ranges: Iterable[Range], *, seed: int = 0) -> Details:
    """What `delta` must know of these ranges of a basis, which is bytes or a seekable binary file.

    SignatureError: they are not within it, or they are, taken together, more than twice as long as it is.
    """
    access = random_access(basis)
    asked = list(ranges)
    if len(asked) > MAX_RANGES or sum(length for _, length, _ in asked) > MOST_TIMES * access.size:
        raise SignatureError("more is asked about than the basis has; make a new signature")
    if any(offset < 0 or length < 0 or offset + length > access.size for offset, length, _ in asked):
        raise SignatureError("what is asked about is not within the basis; make a new signature")
    sums = tuple(_sums(access, wanted, seed) for wanted in asked if not wanted.orphan)
    joined = Joined(access, [wanted for wanted in asked if wanted.orphan])
    size = max(_SMALLEST_BLOCK, default_block_size(joined.size) // _FINER)
    return Details(seed, sums, signature_of(joined, size, seed) if joined.size else None)


def _sums(access: RandomAccess, of: Range, seed: int) -> bytes:
    size, found = piece_size(of.length), bytearray()
    end = min(of.offset + of.length, access.size)
    for at in range(of.offset, end, MAX_LITERAL):
        data = memoryview(access.read_at(at, min(MAX_LITERAL, end - at)))
        for start in range(0, len(data) - size + 1, size):
            found += (strong(data[start : start + size], seed) & SUM_MASK).to_bytes(SUM_BYTES, "little")
    return bytes(found)


class Joined:
    """Some ranges of a basis, one after the other, as if they were all there is."""

    def __init__(self, access: RandomAccess, parts: Sequence[Range]) -> None:
        self._access = access
        self._map = OrphanMap(parts)
        self.size = self._map.size

    def read_into(self, view: memoryview, offset: int) -> int:
        """Fill `view` with what stands at `offset`; return how many bytes there were."""
        done = 0
        for start, length in self._map.parts(offset, min(len(view), self.size - offset)):
            count = self._access.read_into(view[done : done + length], start)
            done += count
            if count < length:
                break
        return done

    def read_at(self, offset: int, length: int) -> bytes:
        """The bytes at `offset`."""
        data = bytearray(length)
        return bytes(data[: self.read_into(memoryview(data), offset)])


class OrphanMap:
    """From places in all orphans, one after the other, to places in the basis. `size`: bytes of them all."""

    def __init__(self, orphans: Sequence[Range]) -> None:
        self._orphans = orphans
        self._ends = list(accumulate(orphan.length for orphan in orphans))
        self.size = self._ends[-1] if self._ends else 0

    def parts(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Where in the basis `length` bytes from `offset` on stand: places and lengths."""
        number = bisect_right(self._ends, offset)
        while length > 0:
            orphan, end = self._orphans[number], self._ends[number]
            count = min(length, end - offset)
            yield orphan.offset + orphan.length - (end - offset), count
            offset += count
            length -= count
            number += 1
