"""The second round of the search: gaps are filled from what is known of their place, and the rest from orphans."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, starmap, zip_longest
from typing import NamedTuple

from codesync.delta.checksum import strong
from codesync.delta.errors import SignatureError
from codesync.delta.index import Index
from codesync.delta.match import search, search_by
from codesync.delta.ops import MAX_LITERAL, Copy, Literal, Op
from codesync.delta.reading import Readable
from codesync.delta.refine.details import SUM_BYTES, SUM_MASK, Details, OrphanMap, piece_size
from codesync.delta.refine.gaps import Gap, Gaps
from codesync.delta.signature import Signature

_NEAR = 64  # bytes that what is between two edits may have moved by, beyond what its surroundings have
_FARTHEST = 1024  # places in all where it is looked for
_ALLOWANCE = 8192
_SHARE = 8


class Refined(NamedTuple):
    """A signature, and the details of what it left open for one target: what `delta` takes in the second round."""

    signature: Signature
    gaps: Gaps
    details: Details


def refined(known: Refined, target: bytes | Readable) -> Iterator[Op]:
    """As `delta`: the operations that make `target`, which must be what the gaps were found in."""
    return _merged(_refined(known, target))


def _refined(known: Refined, target: bytes | Readable) -> Iterator[Copy | Literal]:
    pieces, sizes = _pieces(known), {gap.start: gap.size for gap in known.gaps.gaps}
    orphans = _Orphans(known)
    at = 0
    for is_literal, group in groupby(search(known.signature, target), lambda op: isinstance(op, Literal)):
        ops: Iterator[Copy | Literal]
        if is_literal and at in sizes:
            ops = _Gap(at, sizes[at], known.details.seed).fill(group, pieces[at])
        else:
            ops = orphans.find(group) if is_literal else group  # noqa: B031
        for op in ops:
            at += len(op.data) if isinstance(op, Literal) else op.length
            yield op


class _Orphans:
    """What of the basis has moved and changed, found in the literals."""

    def __init__(self, known: Refined) -> None:
        sig = known.details.orphans
        self._map = OrphanMap(known.gaps.orphans)
        if sig is not None and not sig.length == self._map.size > 0:
            raise SignatureError("the details of the basis are for other gaps")
        self._index = Index(sig) if sig is not None else None

    def find(self, literals: Iterator[Copy | Literal]) -> Iterator[Copy | Literal]:
        """The literals, with what orphans have as copies."""
        if self._index is None:
            yield from literals
            return
        for op in search_by(self._index, _Joint(literals)):
            if isinstance(op, Copy):
                yield from starmap(Copy, self._map.parts(*op))
            else:
                yield op


class _Joint:
    """Literals, read as one file."""

    def __init__(self, literals: Iterator[Copy | Literal]) -> None:
        self._literals = literals
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        if not self._rest:
            literal = next(self._literals, None)
            assert not isinstance(literal, Copy), "a group is of literals only"
            self._rest = literal.data if literal is not None else b""
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


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
    """For each gap, by its start, the pieces of what stands in its place, in their order."""
    if len(known.gaps.gaps) != len(known.details.sums):
        raise SignatureError("the details of the basis are for other gaps")
    return {gap.start: _cut(gap, sums) for gap, sums in zip(known.gaps.gaps, known.details.sums, strict=True)}


def _cut(gap: Gap, sums: bytes) -> Iterator[_Piece]:
    of = gap.basis
    size, count = piece_size(of.length), len(sums) // SUM_BYTES
    if count > of.length // size:
        raise SignatureError("the details of the basis are for other gaps")
    numbers = [int.from_bytes(sums[at : at + SUM_BYTES], "little") for at in range(0, len(sums), SUM_BYTES)]
    shifts = (gap.start - of.offset, gap.start + gap.size - of.offset - of.length)
    low, high = min(shifts) - _NEAR, max(shifts) + _NEAR
    if high - low > _FARTHEST:
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
                literal = next(literals, None)
                if literal is None:  # the target is not the one that the gaps were found in
                    break
                yield from self._read(literal)
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
        return strong(self._data[place : place + size], self._seed) & SUM_MASK == expected


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
