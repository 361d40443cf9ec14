"""The search: which stretches of a target stand in the basis too, told from the basis's signature alone.

The target is read once, front to back, into one buffer that is used again and again. Where a block has matched, its
successors are tried next, many at once, at the speed of the strong checksum. Where that fails, anchors are looked for
(`anchors`, `runs`): the delimiters of a stretch and what follows them are found by a regular expression, and only where the
hash of one is known is a block compared. Blocks without an anchor are looked for by `rolling`. Where nothing else is found
before it, the block behind the one that was expected is tried in its place: what was expected has been edited.

A match is never false by way of an anchor or a weak checksum: both only say where to compute the strong one, over the
whole block. That has 32 bits (64 for huge files). It is asked at some thousand places where it does not match, and there it
must differ from one block, or, where a weak checksum has matched, from all that have no anchor. Whoever puts a target
together checks it as a whole; a signature with another `seed` then gives another delta.

The work is bounded: each delimiter, of four at most, is searched for once in every byte, and again in less than a stretch behind
each match; the comparisons that come to nothing have an allowance, and so has the rolling. What they miss goes as a literal:
never wrong, only longer. This file knows neither the basis's content nor how a delta travels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from codesync.delta.anchors import EDGE, VALUE_MASK, edge_value, edges, hash32
from codesync.delta.index import Index
from codesync.delta.ops import MAX_LITERAL, Copy, Literal, Op
from codesync.delta.reading import READ_SIZE, Readable, as_readable, filler, read_fully
from codesync.delta.rolling import Rolling
from codesync.delta.runs import LONG, runs
from codesync.delta.signature import Signature

if TYPE_CHECKING:
    from re import Pattern

    from codesync.delta.refine import Refined

_FALSE_ANCHORS = 4096  # comparisons that may come to nothing at first …
_FALSE_BYTES = 4096  # what is compared costs one for each, and one for so many bytes
_FALSE_SHARE = 128  # … and one more for so many bytes of the target
_WORTH_OVERLAPPING = 4  # the part of a block that one which overlaps what has been copied must add
_SAME_TEXT = 4  # places that are tried where the text of an anchor stands again and again
_STEP = 1 << 17  # bytes that are searched at once, at most


def delta(against: Signature | Refined | bytes | BinaryIO, target: bytes | Readable) -> Iterator[Op]:
    """The operations that make `target`, in order, as the target is read once, front to back.

    `against` is the signature of a basis that is elsewhere, or with details of it in a second round: that gives `Copy` and
    `Literal`. Or it is the basis itself, bytes or a seekable binary file: that gives `Window` too, and a smaller delta.
    Neighbouring copies are one `Copy`; a `Literal` has at most 256 KiB, and only the last of a row has less. Memory: 1 MiB
    and some blocks, and some times the signature.
    """
    if isinstance(against, Signature):
        return search(against, target)
    if isinstance(against, tuple):
        from codesync.delta.refine import refined

        return refined(against, target)
    from codesync.delta.held import held_delta

    return held_delta(against, target)


def search(sig: Signature, target: bytes | Readable) -> Iterator[Copy | Literal]:
    """As `delta`, against a signature."""
    readable = as_readable(target)
    return search_by(Index(sig), readable) if sig.length else _literals(readable)


def search_by(index: Index, target: Readable) -> Iterator[Copy | Literal]:
    """As `search`, with a signature, not an empty one, that has been made ready."""
    return _Search(index, target).run()


def _literals(file: Readable) -> Iterator[Literal]:
    while data := read_fully(file, MAX_LITERAL):
        yield Literal(data)


_Found = tuple[int, int]  # a place in the buffer, and the block that stands there


def _first(one: _Found | None, other: _Found | None) -> _Found | None:
    return min(one, other) if one and other else one or other


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
        self._has_runs = index.size >= LONG and bool(index.has_edges or index.constants)
        delimiters = index.delimiters if index.anchors else ()
        self._patterns = [(delimiter.pattern(), delimiter.span - 1) for delimiter in delimiters]
        self._span = max((delimiter.span for delimiter in delimiters), default=1)
        self._tail = 0  # bytes of the short last block, if that is what has matched last
        self._floor = 0  # the earliest place of a block
        self._step = 0  # bytes that are searched at once: the more, the longer nothing has matched
        self._false = _FALSE_ANCHORS

    def run(self) -> Iterator[Copy | Literal]:
        """All operations."""
        size = self._index.size
        while True:
            if not self._ended and self._size - self._at < 2 * size + self._span:
                yield from self._read_on()
            if length := self._matched():
                yield from self._copied(length)
            elif self._size - self._at < size:
                break
            else:
                self._find(edited=self._size - self._at >= 2 * size and self._is_edited())
        yield from self._end()

    # --- the buffer ------------------------------------------------------------------------------------------

    def _read_on(self) -> Iterator[Copy | Literal]:
        """Give out what can be, move the rest to the buffer's start and fill it up."""
        while self._at - self._start > MAX_LITERAL:
            yield from self._flushed()
            yield self._literal(self._start + MAX_LITERAL)
        first = min(self._start, self._at)
        kept = self._size - first
        self._view[:kept] = self._view[first : self._size]
        self._at -= first
        self._start -= first
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
        tail = 0
        if block + count == index.count and index.is_tail(self._view, at + length, self._size):
            tail = index.tail
        if length or tail:
            self._tail = tail
        return length + tail

    def _is_edited(self) -> bool:
        """Does the block after the expected one stand where it should? One that stands in many places proves nothing."""
        index, block = self._index, self._block + 1
        if block >= index.count or index.stands_anywhere(block):
            return False
        return index.stands(self._view, self._at + index.size, block)

    def _copied(self, length: int) -> Iterator[Copy | Literal]:
        """`length` bytes match: give out what has not matched before them, and keep the copy, which may grow yet."""
        index, size = self._index, self._index.size
        if self._copy is not None and self._at < self._start:
            overlap = self._start - self._at
            if length - overlap < size // _WORTH_OVERLAPPING:
                self._false -= 1 + size // _FALSE_BYTES  # as good as nothing has been won
            self._copy = Copy(self._copy.offset, self._copy.length - overlap)
            self._start = self._at
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

    def _find(self, *, edited: bool) -> None:
        """Set `at` and `block` to the next place where some block stands, or `at` to where none has been found yet.

        With `edited` that is, at the latest, the block behind the one that was expected, in its place.
        """
        size = self._index.size
        # a whole block is worth more than the short last one, which may stand where it begins
        self._at = max(0, self._at - max(0, self._tail - 1))
        self._tail = 0
        self._step = min(max(size // 4 + 1, 2 * self._step), max(size, _STEP))
        # a block that overlaps what has been copied last is worth more than the end of that, if it reaches beyond `at`
        copied = self._copy.length - 1 if self._copy and self._false > 0 else 0
        self._floor = max(0, self._start - copied, self._at - size + 1)
        stop = self._at + size if edited else min(self._at + self._step, self._size - size + 1)
        # blocks that end with the target have their anchors behind `stop`
        last = self._size if self._ended and stop + size > self._size else stop
        found = self._find_anchor(last) if self._patterns else None
        if self._has_runs:
            found = _first(found, self._find_run(last))
        if not self._rolling.is_idle:
            found = _first(
                found, self._rolling.find(self._data, self._view, self._at, found[0] if found else stop)
            )
        if found is None:
            self._at, self._block = (
                stop,
                self._index.count + 1,
            )  # nothing is expected, not even the last block
        else:
            self._at, self._block = found
            self._step = 0

    def _find_anchor(self, stop: int) -> _Found | None:
        """The first place where an anchor from `at` to `stop` has its block around it."""
        data, anchors, best = self._data, self._index.anchors, None
        for pattern, beyond in self._patterns:
            at, end = self._at - 1, min(stop + beyond, self._size)
            for text in pattern.findall(data, self._at, end):
                value = hash32(text) & VALUE_MASK
                if value in anchors:
                    at = data.index(text, at + 1)
                    if best is not None and at > best[0]:
                        break  # what is found from here on is farther, or overlaps what is better
                    best = _first(best, self._placed(text, value, at, end, pattern))
        return best

    def _placed(self, text: bytes, value: int, at: int, end: int, pattern: Pattern[bytes]) -> _Found | None:
        """Where a block stands that has the anchor `text`, found somewhere from `at` on before `end`, and which."""
        beyond = len(text) - 1
        for _ in range(_SAME_TEXT):
            if (found := self._compared(at, value)) is not None:
                return found
            # where it is not isolated it is no anchor: that stands farther on
            first = pattern.search(self._data, max(self._at, at - beyond), at + beyond + 1)
            if first is None or first.start() == at or (at := self._data.find(text, at + 1, end)) < 0:
                break
        return None

    def _find_run(self, stop: int) -> _Found | None:
        """The first place where a run of equal bytes from `at` to `stop` is a block, or has one around its edge."""
        index, best, first = self._index, None, self._floor
        # where a run ends farther on is asked when the search has come nearer
        last = min(stop + index.size + EDGE, self._size)
        for run in runs(self._data, self._at, stop, first, last):
            if best is not None and run.start >= best[0]:
                break
            constant = index.constants.get(self._data[run.start])
            if constant is not None and run.stop - run.start >= index.size:
                best = _first(best, (run.start, constant))
            for edge in edges(run) if index.has_edges else ():
                if first <= edge - EDGE and edge + EDGE <= last:
                    value = edge_value(self._view, edge)
                    if value in index.anchors:
                        best = _first(best, self._compared(edge, value))
        return best

    def _compared(self, at: int, value: int) -> _Found | None:
        """Where a block stands whose anchor at `at` has this value, and which."""
        index, size = self._index, self._index.size
        for offset, block in index.sharing(value) if self._false > 0 else ():
            place = at - offset
            if self._floor <= place <= self._size - size:
                if index.stands(self._view, place, block):
                    return place, block
                self._false -= 1 + size // _FALSE_BYTES
        return None

    # --- the end ---------------------------------------------------------------------------------------------

    def _end(self) -> Iterator[Copy | Literal]:
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
