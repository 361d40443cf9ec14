"""The search for blocks that have no anchor, by the rolling checksum, which is what a match is by definition.

It goes over the target byte by byte, a hundred times slower than anchors. So it has an allowance of bytes that grows with
the target; once that is used up, only a stretch of one block in every `_SPARSE` is looked at: a long run of blocks shows
in any of them.
"""

from __future__ import annotations

from operator import length_hint
from typing import TYPE_CHECKING

from codesync.delta.checksum import sums
from codesync.delta.index import NOWHERE

if TYPE_CHECKING:
    from codesync.delta.index import Index

_ALLOWANCE = 1 << 18
_SHARE = 128  # one byte more to roll over for so many of the target, if many blocks have no anchor
_WEIGHT = 8
_SPARSE = 64
_FALSE_HIT = 64  # what a weak sum that misled costs, in bytes of the allowance …
_SUMMING = 16  # to sum up so many bytes takes as long as rolling over one
_FALSE_SHARE = 64  # … and one more for so many of the block


class Rolling:
    """Finds places of blocks without anchors in a target that is gone through once."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._size = index.size
        self._weak = index.weak
        self._weak_high = frozenset(number >> 16 for number in self._weak)
        self._leaving = [self._size * byte for byte in range(256)] if self._weak else []
        # where few blocks are without an anchor, nearly all of them are found by way of their neighbours
        share = min(1.0, _WEIGHT * index.unanchored / max(1, index.count))
        self._allowance = round(_ALLOWANCE * share)
        self._share = _SHARE / share if share else 1
        self._left_out = 0  # bytes until the next stretch, when there is no allowance left
        self._is_main = share == 1  # what anchors there are, if any, leave most to us

    @property
    def is_idle(self) -> bool:
        """Whether every block has an anchor."""
        return not self._index.by_strong

    def find(self, data: bytearray, view: memoryview, at: int, stop: int) -> tuple[int, int] | None:
        """The first place in `at` … `stop`-1 where a block without anchor stands, and which.

        `data`, and `view` of it, must go on for a block behind `stop`. As far as the allowance goes.
        """
        size = self._size
        if (
            at < stop
            and (block := self._index.by_strong.get(self._index.sum_of(view[at : at + size]), NOWHERE))
            != NOWHERE
        ):
            return at, block  # where a match has ended another one often begins: that costs no allowance
        self._allowance += round((stop - at) / self._share)
        while at < stop and (self._allowance > 0 or self._is_main):
            if self._allowance > 0:
                end = min(stop, at + self._allowance)
            elif at + self._left_out < stop:
                at, self._left_out = at + self._left_out, _SPARSE * size
                end = min(stop, at + size)
            else:
                self._left_out -= stop - at
                break
            at, block = self._roll(data, view, at, end)
            if block != NOWHERE:
                return at, block
        return None

    def _roll(self, data: bytearray, view: memoryview, at: int, stop: int) -> tuple[int, int]:
        """The first place in `at` … `stop`-1, and the block; NOWHERE, and how far this got, where there is none."""
        size, known, known_high, leaving = self._size, self._weak, self._weak_high, self._leaving
        start, last = at, stop - 1
        self._allowance -= size // _SUMMING
        a, b = sums(bytes(view[at : at + size]))
        b &= 0xFFFF
        if b << 16 | a & 0xFFFF in known and (block := self._lookup(view, at)) != NOWHERE:
            return at, block
        entering = iter(data[at + size : last + size])
        # the hottest loop: numbers of one machine word, and a membership test in 16 bits first
        for out, in_ in zip(data[at:last], entering, strict=True):
            a += in_ - out
            b = b + a - leaving[out] & 0xFFFF
            if b in known_high and b << 16 | a & 0xFFFF in known:
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
