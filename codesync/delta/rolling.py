"""The search for blocks that have no anchor: constant ones by comparing, all others by the rolling checksum.

A block that is one byte again and again fills, wherever it stands, at least one of the cells of half its size that a
target is cut into: so one comparison a cell finds the runs, and their ends are looked for in nothing but those.
For all other blocks the weak checksum rolls over the target byte by byte, which is what a match is by definition, and a
hundred times slower than anchors. So it has an allowance of bytes that grows with the target; once it is used up, only a
stretch of one block in every `_SPARSE` is looked at: a long run of blocks shows in any of them.
"""

from __future__ import annotations

from operator import length_hint
from typing import TYPE_CHECKING

from codesync.delta.checksum import sums
from codesync.delta.index import NOWHERE

if TYPE_CHECKING:
    from codesync.delta.index import Index

_ALLOWANCE = 1 << 21
_SHARE = 32  # one byte more to roll over for so many of the target, if many blocks have no anchor
_WEIGHT = 8
_SPARSE = 16
_FALSE_HIT = 64  # what a weak sum that misled costs, in bytes of the allowance …
_FALSE_SHARE = 64  # … and one more for so many of the block


class Rolling:
    """Finds places of blocks without anchors in a target that is gone through once."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._size = index.size
        self._constants = _constants(index)
        self._weak = index.weak
        if len(index.by_strong) == len(self._constants):
            self._weak = frozenset()  # nothing to roll for
        self._weak_high = frozenset(number >> 16 for number in self._weak)
        self._leaving = [self._size * byte for byte in range(256)] if self._weak else []
        # where few blocks are without an anchor, nearly all of them are found by way of their neighbours
        share = min(1.0, _WEIGHT * len(index.by_strong) / max(1, index.count))
        self._allowance = round(_ALLOWANCE * share)
        self._share = _SHARE / share if share else 1
        self._is_main = share == 1  # what anchors there are, if any, leave most to us

    @property
    def is_idle(self) -> bool:
        """Whether every block has an anchor."""
        return not self._index.by_strong

    def find(self, data: bytearray, view: memoryview, at: int, stop: int) -> tuple[int, int]:
        """The first place in `at` … `stop`-1 where a block without anchor stands, and which; (stop, NOWHERE) for none.

        `data`, and `view` of it, must go on for a block behind `stop`.
        """
        found = stop, NOWHERE
        if self._constants:
            found = self._find_constant(data, view, at, stop)
        if self._weak and at < found[0]:
            place, block = self._roll_on(data, view, at, found[0])
            if block != NOWHERE:
                return place, block
        return found

    # --- constant blocks -------------------------------------------------------------------------------------

    def _find_constant(self, data: bytearray, view: memoryview, at: int, stop: int) -> tuple[int, int]:
        size, cell = self._size, max(1, self._size // 2)
        for place in range(at, stop + size - cell, cell):
            block = self._constants.get(data[place])
            if block is None or view[place : place + cell] != block[:cell]:
                continue
            # what is before belongs to a cell that was not constant, so this looks back at less than one of them
            run = bytes(view[max(at, place - cell) : place])
            start = place - len(run) + len(run.rstrip(block[:1]))
            if start >= stop:
                break
            if view[start : start + size] == block:
                return start, self._index.by_strong[self._index.sum_of(block)]
        return stop, NOWHERE

    # --- all others ------------------------------------------------------------------------------------------

    def _roll_on(self, data: bytearray, view: memoryview, at: int, stop: int) -> tuple[int, int]:
        """As `find`, as far as the allowance goes."""
        size = self._size
        self._allowance += round((stop - at) / self._share)
        while at < stop:
            sparse = self._allowance <= 0
            if sparse and not self._is_main:
                break
            end = min(stop, at + (size if sparse else max(size, self._allowance)))
            place, block = self._roll(data, view, at, end)
            if block != NOWHERE:
                return place, block
            at = max(place, at + _SPARSE * size) if sparse else place
        return stop, NOWHERE

    def _roll(self, data: bytearray, view: memoryview, at: int, stop: int) -> tuple[int, int]:
        """The first place in `at` … `stop`-1, and the block; NOWHERE, and how far this got, where there is none."""
        size, known, known_high, leaving = self._size, self._weak, self._weak_high, self._leaving
        start, last = at, stop - 1
        a, b = sums(bytes(view[at : at + size]))
        if (b & 0xFFFF) << 16 | a & 0xFFFF in known and (block := self._lookup(view, at)) != NOWHERE:
            return at, block
        entering = iter(data[at + size : last + size])
        # the hottest loop: a membership test in 16 bits first, as cheap as can be
        for out, in_ in zip(data[at:last], entering, strict=True):
            a += in_ - out
            b += a - leaving[out]
            if b & 0xFFFF in known_high and (b & 0xFFFF) << 16 | a & 0xFFFF in known:
                at = last - length_hint(entering)
                if (block := self._lookup(view, at)) != NOWHERE:
                    self._allowance -= at - start
                    return at, block
                if self._allowance < start - at:  # false ones have eaten it up
                    return at + 1, NOWHERE
        self._allowance -= stop - start
        return stop, NOWHERE

    def _lookup(self, view: memoryview, at: int) -> int:
        """The block that stands in `view` at `at`; where there is none that has cost as much as rolling on by so much."""
        block = self._index.by_strong.get(self._index.sum_of(view[at : at + self._size]), NOWHERE)
        if block == NOWHERE:
            self._allowance -= _FALSE_HIT + self._size // _FALSE_SHARE
        return block


def _constants(index: Index) -> dict[int, bytes]:
    """Byte → the block that is nothing but this byte, of those that the basis has."""
    if not index.by_strong:
        return {}
    blocks = {byte: bytes([byte]) * index.size for byte in range(256)}
    return {byte: block for byte, block in blocks.items() if index.sum_of(block) in index.by_strong}
