"""A second round, where only the remote holds the basis: small blocks, but only around what has not matched.

After a delta against a signature has been made, the sender knows for each gap, a stretch that did not match, what stands
before and behind it in the basis. It asks for the basis's checksums there, in small pieces; a piece can stand at two
places only, so three bytes tell it well enough:

    sender                                remote
    gaps(sig, target)          ──ranges──▶
                               ◀─details── details(basis, ranges)
    delta(Refined(sig, gaps, details), target)

Large blocks in the first round and small pieces in the second need less than either alone: `coarse_block_size`. As with
signatures a false match is improbable (2⁻²⁴ for each piece that is not there) and found out by whoever checks the target.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby, zip_longest
from math import isqrt
from struct import Struct
from typing import BinaryIO, NamedTuple

from codesync.delta.checksum import strong
from codesync.delta.errors import SignatureError
from codesync.delta.match import search
from codesync.delta.ops import MAX_LITERAL, Copy, Literal, Op
from codesync.delta.reading import Readable, random_access
from codesync.delta.signature import Signature, default_block_size

MAGIC = b"csdetl\r\n"
VERSION = 1
MAX_RANGES = 1 << 20
_HEAD = Struct("<8sHII")
_CHECK = Struct("<Q")
_SUM_BYTES = 3
_SUM_MASK = (1 << 8 * _SUM_BYTES) - 1
_SMALLEST_PIECE = 64
_LARGEST_PIECE = 1024
_COARSER = 4
_NEAR = 64  # bytes that what is between two edits may have moved by, beyond what its surroundings have
_FARTHEST = 1024  # places in all where it is looked for
_ALLOWANCE = 8192
_SHARE = 8
_WORTH = 512  # bytes that a gap must have to be asked about


class Range(NamedTuple):
    """`length` bytes of the basis, from `offset` on."""

    offset: int
    length: int


class Gap(NamedTuple):
    """`size` bytes of the target, from `start` on, that have not matched.

    `left`: what the basis has behind the match before it; `right`: what it has before the match behind it. They are the same
    range where the basis goes on from the one to the other; a length of 0 stands for none.
    """

    start: int
    size: int
    left: Range
    right: Range


class Details(NamedTuple):
    """The checksums of pieces of some ranges of a basis: 3 bytes each, one range after the other."""

    seed: int
    sums: tuple[bytes, ...]

    def to_bytes(self) -> bytes:
        """The form that docs/batch-format.md describes."""
        parts = [_HEAD.pack(MAGIC, VERSION, self.seed, len(self.sums))]
        parts += [len(sums).to_bytes(4, "little") + sums for sums in self.sums]
        body = b"".join(parts)
        return body + _CHECK.pack(strong(body))

    @classmethod
    def from_bytes(cls, data: bytes) -> Details:
        """What `to_bytes` gave. SignatureError for anything else."""
        if len(data) < _HEAD.size + _CHECK.size or data[: len(MAGIC)] != MAGIC:
            raise SignatureError("these bytes are no details of a basis")
        _, version, seed, count = _HEAD.unpack_from(data)
        if version != VERSION:
            raise SignatureError(f"details of version {version} are not known here, only {VERSION}")
        if _CHECK.unpack_from(data, len(data) - _CHECK.size)[0] != strong(data[: -_CHECK.size]):
            raise SignatureError("the details of the basis are damaged: their checksum differs")
        sums, at, end = [], _HEAD.size, len(data) - _CHECK.size
        while at < end:
            size = int.from_bytes(data[at : at + 4], "little")
            sums.append(data[at + 4 : at + 4 + size])
            at += 4 + size
        if at != end or len(sums) != count:
            raise SignatureError("the details of the basis are not as long as they say")
        return cls(seed, tuple(sums))


class Refined(NamedTuple):
    """A signature, and the details of what it left open for one target: what `delta` takes in the second round."""

    signature: Signature
    gaps: Sequence[Gap]
    details: Details


def coarse_block_size(length: int) -> int:
    """Bytes per block for a signature that is to be refined: four times `default_block_size`."""
    return _COARSER * default_block_size(length)


def gaps(sig: Signature, target: bytes | Readable) -> list[Gap]:
    """The gaps of the delta from the basis of `sig` to `target` that are worth asking about, in order."""
    found: list[Gap] = []
    at = start = 0  # of the target: so far, and where the literals that came last begin
    before = 0  # where the basis goes on behind the last copy
    for op in search(sig, target):
        if isinstance(op, Literal):
            at += len(op.data)
            continue
        found += _gap(start, at - start, before, op.offset)
        at += op.length
        start, before = at, op.offset + op.length
    if start:
        found += _gap(start, at - start, before, sig.length)
    return found


def _gap(start: int, size: int, before: int, behind: int) -> Iterator[Gap]:
    """What lies between the place `before` of the basis, where it stopped to match, and `behind`, where it does again."""
    if size < _WORTH:
        return
    if before <= behind <= before + 2 * size:
        between = Range(before, behind - before)
        if between.length:
            yield Gap(start, size, between, between)
    else:
        length = min(size, behind)
        yield Gap(start, size, Range(before, size), Range(behind - length, length))


def ranges(gaps: Iterable[Gap]) -> list[Range]:
    """What to ask the remote about, in the order in which `details` answers."""
    asked: list[Range] = []
    for gap in gaps:
        asked += [gap.left] if gap.left == gap.right else [gap.left, gap.right]
    return asked


def piece_size(length: int) -> int:
    """Bytes of the pieces of a range of `length` bytes: as many that its sums and the piece an edit costs are alike."""
    root = isqrt(_SUM_BYTES * length)
    return max(_SMALLEST_PIECE, min(1 << max(0, root.bit_length() - 1), _LARGEST_PIECE))


def details(basis: bytes | BinaryIO, ranges: Iterable[Range], *, seed: int = 0) -> Details:
    """The checksums of these ranges of a basis: bytes, or a seekable binary file. What lies behind its end has none."""
    access = random_access(basis)
    sums = []
    for number, (offset, length) in enumerate(ranges):
        if number >= MAX_RANGES or offset < 0 or length < 0:
            raise SignatureError("these are no ranges of a basis")
        size, found = piece_size(length), bytearray()
        for at in range(offset, min(offset + length, access.size), MAX_LITERAL):
            data = memoryview(access.read_at(at, min(MAX_LITERAL, offset + length - at)))
            for start in range(0, len(data) - size + 1, size):
                found += (strong(data[start : start + size], seed) & _SUM_MASK).to_bytes(_SUM_BYTES, "little")
        sums.append(bytes(found))
    return Details(seed, tuple(sums))


def refined(known: Refined, target: bytes | Readable) -> Iterator[Op]:
    """As `delta`: the operations that make `target`, which must be what the gaps were found in."""
    return _merged(_refined(known, target))


def _refined(known: Refined, target: bytes | Readable) -> Iterator[Copy | Literal]:
    pieces, sizes = _pieces(known), {gap.start: gap.size for gap in known.gaps}
    at = 0
    for is_literal, group in groupby(search(known.signature, target), lambda op: isinstance(op, Literal)):
        is_gap = is_literal and at in sizes
        for op in _Gap(at, sizes[at], known.details.seed).fill(group, pieces[at]) if is_gap else group:
            at += len(op.data) if isinstance(op, Literal) else op.length
            yield op


class _Piece(NamedTuple):
    """A piece of the basis, and by how many bytes it may have moved in the target: `shifts`, or else `low` to `high`.

    `following` is the sum of the piece behind it, or -1.
    """

    offset: int
    size: int
    sum: int
    following: int
    shifts: tuple[int, ...]
    low: int
    high: int


def _pieces(known: Refined) -> dict[int, Iterator[_Piece]]:
    """For each gap, by its start, the pieces that may stand in it, in the order in which they are to be looked for."""
    sums = iter(known.details.sums)
    found: dict[int, Iterator[_Piece]] = {}
    try:
        for gap in known.gaps:
            end = gap.start + gap.size
            by_left = gap.start - gap.left.offset
            by_right = end - gap.right.offset - gap.right.length
            if gap.left == gap.right:
                shifts = (by_left, by_right)
                found[gap.start] = _cut(gap.left, next(sums), shifts, _NEAR)
            else:
                left, right = next(sums), next(sums)
                found[gap.start] = chain(
                    _cut(gap.left, left, (by_left,), 0), _cut(gap.right, right, (by_right,), 0)
                )
    except StopIteration:
        raise SignatureError("the details of the basis are for other gaps") from None
    return found


def _cut(of: Range, sums: bytes, shifts: tuple[int, ...], near: int) -> Iterator[_Piece]:
    size, count = piece_size(of.length), len(sums) // _SUM_BYTES
    if count > of.length // size:
        raise SignatureError("the details of the basis are for other gaps")
    numbers = [int.from_bytes(sums[at : at + _SUM_BYTES], "little") for at in range(0, len(sums), _SUM_BYTES)]
    low, high = min(shifts) - near, max(shifts) + near
    if not near or high - low > _FARTHEST:
        low, high = 0, -1
    for number, (value, following) in enumerate(zip_longest(numbers, numbers[1:], fillvalue=-1)):
        yield _Piece(of.offset + number * size, size, value, following, shifts, low, high)


class _Gap:
    """One gap while its literals are read: `data` stands at `start` in the target, the first `done` bytes are given out."""

    def __init__(self, start: int, size: int, seed: int) -> None:
        self._end = start + size
        self._start = start
        self._data = b""
        self._done = 0
        self._seed = seed
        self._shift = 0  # the last piece that was found has moved by so many bytes
        self._allowance = _ALLOWANCE + size // _SHARE  # comparisons in search of a shift

    def fill(self, literals: Iterable[Copy | Literal], pieces: Iterator[_Piece]) -> Iterator[Copy | Literal]:
        """The literals, with what stands in the basis as copies."""
        literals = iter(literals)
        for piece in pieces:
            reach = piece.offset + 2 * piece.size + max(*piece.shifts, self._shift, piece.high)
            while self._start + len(self._data) < min(reach, self._end):
                yield from self._read(next(literals))
            place = self._place(piece)
            if place is not None:
                yield from self._literal(place)
                yield Copy(piece.offset, piece.size)
                self._done = place + piece.size
                self._shift = self._start + place - piece.offset
        for literal in literals:
            yield from self._read(literal)
        yield from self._literal(len(self._data))

    def _read(self, literal: Copy | Literal) -> Iterator[Literal]:
        """One literal more; what has been passed by long ago goes out."""
        assert isinstance(literal, Literal), "a gap is of literals only"
        if len(self._data) - self._done > MAX_LITERAL:
            yield from self._literal(len(self._data) - MAX_LITERAL)
        self._data, self._start = self._data[self._done :] + literal.data, self._start + self._done
        self._done = 0

    def _literal(self, stop: int) -> Iterator[Literal]:
        while self._done < stop:
            piece = self._data[self._done : min(stop, self._done + MAX_LITERAL)]
            self._done += len(piece)
            yield Literal(piece)

    def _place(self, piece: _Piece) -> int | None:
        """Where in `data` the piece stands."""
        base = piece.offset - self._start
        for shift in (self._shift, *piece.shifts):
            if self._stands(base + shift, piece.size, piece.sum):
                return base + shift
        if piece.following < 0 or self._allowance <= 0:
            return None
        self._allowance -= max(0, piece.high - piece.low)
        for place in range(base + piece.low, base + piece.high + 1):
            # so many places are tried that one piece alone would prove too little
            if self._stands(place, piece.size, piece.sum) and self._stands(
                place + piece.size, piece.size, piece.following
            ):
                return place
        return None

    def _stands(self, place: int, size: int, expected: int) -> bool:
        if place < self._done or place + size > len(self._data):
            return False
        return strong(self._data[place : place + size], self._seed) & _SUM_MASK == expected


def _merged(ops: Iterator[Copy | Literal]) -> Iterator[Op]:
    """Neighbouring copies as one."""
    last: Copy | None = None
    for op in ops:
        if isinstance(op, Copy) and last is not None and last.offset + last.length == op.offset:
            last = Copy(last.offset, last.length + op.length)
            continue
        if last is not None:
            yield last
        last = op if isinstance(op, Copy) else None
        if last is None:
            yield op
    if last is not None:
        yield last
