"""The search: which stretches of a target stand in the basis too, told from the basis's signature alone.

The target is read once, front to back, into one buffer that is used again and again. Where a block has matched, its
successor is tried next, many at once, at the speed of the strong checksum. Where that fails, the block after the one
that was expected is tried (an edit in its place), and then anchors are looked for (`anchors`): the delimiters of a
stretch and what follows them are found by one regular expression, hashed by one pass, and dismissed by one comparison
of sets; only where a value is known is a block compared. Blocks without an anchor are looked for by `rolling`.

A match is never false by way of an anchor or a weak checksum: both only say where to compute the strong one, over the
whole block. That has 32 bits (64 for huge files), is asked at some hundred thousand places at most for 100 MB, and
whoever puts a target together checks it as a whole; a signature with another `seed` then gives another delta.

The work is bounded: anchors are searched for once in every byte; the comparisons that come to nothing have an allowance,
and so has the rolling. What they miss goes as a literal: never wrong, only longer. This file knows neither the basis's
content nor how a delta travels.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from operator import and_
from typing import TYPE_CHECKING, BinaryIO

from codesync.delta.anchors import VALUE_MASK, hash32
from codesync.delta.index import NOWHERE, Index
from codesync.delta.ops import MAX_LITERAL, Copy, Literal, Op
from codesync.delta.reading import READ_SIZE, Readable, as_readable, filler, read_fully
from codesync.delta.rolling import Rolling
from codesync.delta.signature import Signature

if TYPE_CHECKING:
    from re import Match

_FALSE_ANCHORS = 4096  # comparisons that may come to nothing at first …
_FALSE_SHARE = 128  # … and one more for so many bytes of the target
_FINE = 2  # blocks that are searched anchor by anchor, before that is done in bulk
_BULK = 1 << 16


def delta(against: Signature | bytes | BinaryIO, target: bytes | Readable) -> Iterator[Op]:
    """The operations that make `target`, in order, as the target is read once, front to back.

    `against` is the signature of a basis that is elsewhere: that gives `Copy` and `Literal`. Or it is the basis itself,
    bytes or a seekable binary file: that gives `Window` too, and a smaller delta. Neighbouring copies are one `Copy`; a
    `Literal` has at most 256 KiB, and only the last of a row has less. Memory: 1 MiB and some blocks, and three times
    the signature.
    """
    if not isinstance(against, Signature):
        from codesync.delta.held import held_delta

        return held_delta(against, target)
    readable = as_readable(target)
    return _Search(Index(against), readable).run() if against.length else _literals(readable)


def _literals(file: Readable) -> Iterator[Op]:
    while data := read_fully(file, MAX_LITERAL):
        yield Literal(data)


class _Search:
    """One pass through one target.

    The buffer holds `size` bytes. All before `start` has been given out; `at` is where the search stands, and between the two
    is what has not matched. `block` is the one that would be next if the target went on as the basis does.
    """

    def __init__(self, index: Index, target: Readable) -> None:
        self._index = index
        self._fill = filler(target)
        self._data = bytearray(MAX_LITERAL + 2 * (READ_SIZE + index.size) + READ_SIZE)
        self._view = memoryview(self._data)
        self._size = self._start = self._at = self._block = 0
        self._ended = False
        self._copy: Copy | None = None
        self._rolling = Rolling(index)
        delimiter = index.delimiter if index.anchors else None
        self._pattern = delimiter.pattern() if delimiter else None
        self._span = delimiter.span if delimiter else 1
        self._false = _FALSE_ANCHORS

    def run(self) -> Iterator[Op]:
        """All operations."""
        size = self._index.size
        while True:
            if not self._ended and self._size - self._at < 2 * size + self._span:
                yield from self._read_on()
            if length := self._matched():
                yield from self._copied(length)
            elif self._size - self._at < size:
                break
            elif self._size - self._at >= 2 * size and self._is_edited():
                self._at += size
                self._block += 1
            else:
                self._find()
        yield from self._end()

    # --- the buffer ------------------------------------------------------------------------------------------

    def _read_on(self) -> Iterator[Op]:
        """Give out what can be, move the rest to the buffer's start and fill it up."""
        while self._at - self._start > MAX_LITERAL:
            yield from self._flushed()
            yield self._literal(self._start + MAX_LITERAL)
        kept = self._size - self._start
        self._view[:kept] = self._view[self._start : self._size]
        self._at -= self._start
        self._start = 0
        self._size = kept + self._fill(self._view[kept:])
        self._false += (self._size - kept) // _FALSE_SHARE
        self._ended = self._size < len(self._data)

    def _literal(self, stop: int) -> Literal:
        literal = Literal(bytes(self._view[self._start : stop]))
        self._start = stop
        return literal

    def _flushed(self) -> Iterator[Copy]:
        if self._copy is not None:
            yield self._copy
            self._copy = None

    # --- matches ---------------------------------------------------------------------------------------------

    def _matched(self) -> int:
        """Bytes at `at` that are `block` and its successors, among them the short last block."""
        index, at, block = self._index, self._at, self._block
        count = index.follow(self._view, at, self._size, block)
        length = count * index.size
        if block + count == index.count and index.is_tail(self._view, at + length, self._size):
            length += index.tail
        return length

    def _is_edited(self) -> bool:
        """Does the block after the expected one stand where it should?"""
        block = self._block + 1
        return block < self._index.count and self._index.stands(
            self._view, self._at + self._index.size, block
        )

    def _copied(self, length: int) -> Iterator[Op]:
        """`length` bytes match: give out what has not matched before them, and keep the copy, which may grow yet."""
        index, size = self._index, self._index.size
        back = index.precede(self._view, self._start, self._at, self._block) * size
        offset = self._block * size - back
        if self._start < self._at - back:
            yield from self._flushed()
            while self._at - back - self._start > MAX_LITERAL:
                yield self._literal(self._start + MAX_LITERAL)
            yield self._literal(self._at - back)
        if self._copy is not None and self._copy.offset + self._copy.length == offset:
            self._copy = Copy(self._copy.offset, self._copy.length + back + length)
        else:
            yield from self._flushed()
            self._copy = Copy(offset, back + length)
        self._block += -(-length // size)
        self._start = self._at = self._at + length

    # --- the search ------------------------------------------------------------------------------------------

    def _find(self) -> None:
        """Set `at` and `block` to the next place where some block stands, or `at` to where none has been found yet."""
        size = self._index.size
        stop = self._size - size + 1  # no whole block stands from here on
        place, block = self._find_anchor(stop)
        if not self._rolling.is_idle:
            earlier, other = self._rolling.find(self._data, self._view, self._at, place)
            if other != NOWHERE:
                place, block = earlier, other
        if block == NOWHERE:
            self._block = self._index.count  # nothing is expected
        else:
            self._block = block
        self._at = place

    def _find_anchor(self, stop: int) -> tuple[int, int]:
        """The first place from `at` on, before `stop`, where an anchor is and its block around it; or (stop, NOWHERE)."""
        if self._pattern is None:
            return stop, NOWHERE
        data, find, known = self._data, self._pattern.findall, self._index.anchors.keys()
        # an anchor up to here has all of its block in the buffer
        at, last = self._at, self._size if self._ended else stop
        fine = min(last, at + _FINE * self._index.size)
        while at < last:
            if at < fine:
                end = fine
            else:
                end = min(last, at + _BULK)
                found = find(data, at, min(end + self._span - 1, self._size))
                if known.isdisjoint(map(and_, map(hash32, found), repeat(VALUE_MASK))):
                    at = end
                    continue
            for match in self._pattern.finditer(data, at, min(end + self._span - 1, self._size)):
                if (place := self._compared(match)) is not None:
                    return place
            at = end
        return stop, NOWHERE

    def _compared(self, found: Match[bytes]) -> tuple[int, int] | None:
        """Where a block stands that has this anchor, and which."""
        value = hash32(found[0]) & VALUE_MASK
        if value not in self._index.anchors or self._false <= 0:
            return None
        for offset, block in self._index.sharing(value):
            place = found.start() - offset
            if place < self._start or place + self._index.size > self._size:
                continue
            if self._index.stands(self._view, place, block):
                return place, block
            self._false -= 1
        return None

    # --- the end ---------------------------------------------------------------------------------------------

    def _end(self) -> Iterator[Op]:
        """Less than a block is left: it may still end as the basis does."""
        index, stop = self._index, self._size - self._index.tail
        if stop < self._at or not index.is_tail(self._view, stop, self._size):
            stop = self._size
        if self._start < stop:
            yield from self._flushed()
            while stop - self._start > MAX_LITERAL:
                yield self._literal(self._start + MAX_LITERAL)
            yield self._literal(stop)
        if stop < self._size:
            offset = index.count * index.size
            if self._copy is not None and self._copy.offset + self._copy.length == offset:
                self._copy = Copy(self._copy.offset, self._copy.length + index.tail)
            else:
                yield from self._flushed()
                self._copy = Copy(offset, index.tail)
        yield from self._flushed()
