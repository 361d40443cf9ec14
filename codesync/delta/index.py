"""A signature made ready for looking things up in a target. This file knows no target but the buffer it is handed."""

from __future__ import annotations

from array import array
from collections import Counter
from itertools import compress
from typing import TYPE_CHECKING

from codesync.delta.anchors import VALUE_BITS, VALUE_MASK
from codesync.delta.checksum import strong
from codesync.delta.runs import LONG

if TYPE_CHECKING:
    from codesync.delta.signature import Signature

NOWHERE = -1
_FOLLOWED_AT_ONCE = 64
_LARGEST_CONSTANT = 1 << 17  # bytes of a block
_SHARING = 8  # blocks with one anchor value that are compared; a signature made here has four at most

Buffer = memoryview


class Index:
    """Blocks by anchor, by weak and by strong checksum. A basis shorter than its block size counts as one block.

    `size`: bytes of a block; `count`: blocks of full size; `tail`: bytes of the short last one.
    """

    def __init__(self, sig: Signature) -> None:
        self.size = min(sig.block_size, sig.length)
        self.count, self.tail = divmod(sig.length, self.size)
        self.delimiters = sig.delimiters
        self._seed = sig.seed
        self._strong = sig.strong
        self._mask = (1 << 8 * sig.strong.itemsize) - 1
        self.anchors, self._sharing = self._by_anchor(sig)
        self.weak, self.by_strong = self._by_sums(sig)
        constants = self._of_one_byte()
        self._often = frozenset(constants).union(self._repeated(sig))
        # byte → block; where runs are looked for, these need not be looked for among others
        self.constants = {
            byte: self.by_strong.pop(number) for number, byte in constants.items() if self.size >= LONG
        }
        self.unanchored = sum(
            not anchored and number in self.by_strong
            for anchored, number in zip(sig.anchored, sig.strong, strict=True)
        )
        self.has_edges = sig.edges

    def _by_anchor(
        self, sig: Signature
    ) -> tuple[dict[int, tuple[int, int]], dict[int, list[tuple[int, int]]]]:
        """Value → offset in the block and block; and the same for the values that several blocks have."""
        numbers = range(self.count)
        marks = sig.marks
        if not all(sig.anchored[: self.count]):
            numbers = list(compress(numbers, sig.anchored))  # type: ignore[assignment]
            marks = array("I", compress(marks, sig.anchored))
        values = [mark & VALUE_MASK for mark in marks[: len(numbers)]]
        places = list(zip([mark >> VALUE_BITS for mark in marks], numbers, strict=False))
        first = dict(zip(reversed(values), reversed(places), strict=True))
        sharing: dict[int, list[tuple[int, int]]] = {}
        if len(first) < len(values):
            for value, place in zip(values, places, strict=True):
                if first[value] != place:
                    others = sharing.setdefault(value, [first[value]])
                    if len(others) < _SHARING:
                        others.append(place)
        return first, sharing

    def _by_sums(self, sig: Signature) -> tuple[frozenset[int], dict[int, int]]:
        """Weak sums, and strong sum → block, of the blocks that have no anchor; equal blocks are one, the first."""
        numbers = [number for number in range(self.count) if not sig.anchored[number]]
        weak = frozenset(map(sig.marks.__getitem__, numbers))
        return weak, {sig.strong[number]: number for number in reversed(numbers)}

    def _of_one_byte(self) -> dict[int, int]:
        """Strong sum → byte, of blocks that are nothing but this byte."""
        if not self.by_strong or self.size > _LARGEST_CONSTANT:
            return {}
        sums = {self.sum_of(bytes([byte]) * self.size): byte for byte in range(256)}
        return {number: byte for number, byte in sums.items() if number in self.by_strong}

    def _repeated(self, sig: Signature) -> set[int]:
        """Strong sums that several blocks without an anchor have."""
        strongs = [number for number, anchored in zip(sig.strong, sig.anchored, strict=True) if not anchored]
        counts = Counter(strongs) if len(set(strongs)) < len(strongs) else Counter()
        return {number for number, count in counts.items() if count > 1}

    def stands_anywhere(self, block: int) -> bool:
        """Whether the block may be found at a place for no other reason than that there are many like it."""
        return self._strong[block] in self._often

    def sharing(self, value: int) -> list[tuple[int, int]]:
        """All that have the anchor `value`: offset of the anchor in the block, and block."""
        return self._sharing.get(value) or [self.anchors[value]]

    def sum_of(self, view: memoryview | bytes) -> int:
        """The strong checksum as the signature has it."""
        return strong(view, self._seed) & self._mask

    def stands(self, view: memoryview, at: int, block: int) -> bool:
        """Whether `block`, one of full size, stands in `view` at `at`."""
        return self.sum_of(view[at : at + self.size]) == self._strong[block]

    def follow(self, view: memoryview, at: int, stop: int, block: int) -> int:
        """How many blocks, `block` and its successors, stand one after another in `view[at:stop]`."""
        size, seed, mask, numbers = self.size, self._seed, self._mask, self._strong
        most = min(self.count - block, (stop - at) // size)
        if most <= 0 or not self.stands(view, at, block):
            return 0
        matched = 1
        while matched < most:
            # ever more at once, so that little is computed in vain
            start, group = at + matched * size, min(matched, most - matched, _FOLLOWED_AT_ONCE)
            found = [
                strong(view[place : place + size], seed) & mask
                for place in range(start, start + group * size, size)
            ]
            expected = numbers[block + matched : block + matched + group].tolist()
            if found == expected:
                matched += group
                continue
            while found.pop(0) == expected.pop(0):
                matched += 1
            break
        return matched

    def precede(self, view: memoryview, start: int, at: int, block: int) -> int:
        """How many blocks, the predecessors of `block`, stand one before another in `view[start:at]`, up to `at`."""
        matched = 0
        most = min(block, (at - start) // self.size)
        while matched < most and self.stands(view, at - (matched + 1) * self.size, block - matched - 1):
            matched += 1
        return matched

    def is_tail(self, view: memoryview, at: int, stop: int) -> bool:
        """Whether the short last block stands in `view[at:stop]`, at its start."""
        tail = self.tail
        return 0 < tail <= stop - at and self.sum_of(view[at : at + tail]) == self._strong[self.count]
