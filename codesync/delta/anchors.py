"""Anchors: places in a block that show in any target that holds the block, wherever it has moved to.

A delimiter is a short needle, with a byte behind it that is no greater than a limit, chosen from samples so that it
occurs about a dozen times a block. An anchor is the first delimiter of a block that is isolated: no other one begins in
the `SPAN` bytes before it. Its value is a hash of the delimiter and what follows it, `SPAN` bytes for the shortest
needle. Whoever goes through a target from anywhere before such a block, and jumps over the `span` bytes of every
delimiter met, cannot jump over the anchor: so no occurrence of a block that has an anchor is missed. Regular expressions do
this at the speed of memory; that is all the reason for anchors.

This file knows bytes only: no files, no signatures.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from xxhash import xxh32_intdigest as hash32

__all__ = [
    "MAX_NEEDLE",
    "NO_ANCHOR",
    "OFFSET_BITS",
    "VALUE_BITS",
    "VALUE_MASK",
    "Delimiter",
    "Finder",
    "choose",
    "hash32",
]

OFFSET_BITS = 13  # an anchor lies in the first 8 KiB of its block
VALUE_BITS = 32 - OFFSET_BITS
VALUE_MASK = (1 << VALUE_BITS) - 1
MAX_NEEDLE = 8
NO_ANCHOR = -1
_REACH = 1 << OFFSET_BITS
_FOLLOWING = 32  # bytes behind the delimiter that count
_DENSITY = 12  # delimiters wanted in a block's first 8 KiB
_TRIES = 6  # delimiters of each kind that are tried on the samples
_SHARED = 4  # blocks that may have anchors of the same value
_LOOKS = 12  # delimiters of a block that are looked at
_ENOUGH = 0.9  # of the samples with an anchor of their own: no better delimiter is looked for


class Delimiter(NamedTuple):
    """`needle`, 1 to 8 bytes, and a byte not greater than `limit` behind it."""

    needle: bytes
    limit: int

    @property
    def span(self) -> int:
        """The bytes that an anchor's value is made of."""
        return len(self.needle) + 1 + _FOLLOWING

    def pattern(self) -> re.Pattern[bytes]:
        """Matches a delimiter and what follows it, `span` bytes."""
        limit = b"." if self.limit == 255 else b"[\\x00-" + re.escape(bytes([self.limit])) + b"]"
        return re.compile(re.escape(self.needle) + limit + b".{%d}" % _FOLLOWING, re.DOTALL)


class Finder:
    """Finds each block's anchor; of several those whose value no earlier block has."""

    def __init__(self, delimiter: Delimiter) -> None:
        self._search = delimiter.pattern().search
        self._span = delimiter.span
        self._seen: dict[int, int] = {}

    def marks(self, data: bytearray | bytes, size: int, count: int) -> list[int]:
        """Of the first `count` blocks of `size` bytes: `offset << 19 | value` of its anchor, NO_ANCHOR without one."""
        span, search, seen = self._span, self._search, self._seen
        reach = min(size, _REACH - 1 + span)
        marks = []
        for start in range(0, count * size, size):
            stop = start + reach
            mark, free = NO_ANCHOR, start + span - 1  # from `free` on a delimiter is isolated
            found = search(data, start, stop)
            looks = _LOOKS
            while found is not None and looks:
                at = found.start()
                if at >= free:
                    value = hash32(found[0]) & VALUE_MASK
                    count_of = seen.get(value, 0)
                    if count_of < _SHARED:
                        seen[value] = count_of + 1
                        mark = (at - start) << VALUE_BITS | value
                        break
                free = at + span
                looks -= 1
                found = search(data, at + 1, stop)
            marks.append(mark)
        return marks


def choose(samples: list[bytes], block_size: int) -> Delimiter | None:
    """The delimiter that gives most samples an anchor of their own; None where hardly any has one. Deterministic."""
    data = b"".join(samples)
    wanted = len(data) * _DENSITY // min(block_size, _REACH) + 1
    best, score = None, len(samples) // 8
    for delimiter in dict.fromkeys(_candidates(data, wanted)):
        finder = Finder(delimiter)
        marks = {mark for sample in samples for mark in finder.marks(sample, len(sample), 1)} - {NO_ANCHOR}
        if len(marks) > score:
            best, score = delimiter, len(marks)
            if score >= _ENOUGH * len(samples):
                break
    return best


def _candidates(data: bytes, wanted: int) -> Iterator[Delimiter]:
    """What stands here and there in the data, and in between single bytes that occur about so often."""
    for number in range(2 * _TRIES):
        if number == _TRIES:
            yield from _single_bytes(data, wanted)
        # far apart from one to the next
        at = len(data) * (2 * (number * 7 % (2 * _TRIES)) + 1) // (4 * _TRIES)
        if (delimiter := _grown(data, at, wanted)) is not None:
            yield delimiter


def _single_bytes(data: bytes, wanted: int) -> Iterator[Delimiter]:
    counts = Counter(data)
    apt = [byte for byte, count in counts.items() if wanted <= 2 * count <= 4 * wanted]
    for byte in sorted(apt, key=lambda byte: (abs(counts[byte] - wanted), byte))[: 2 * _TRIES]:
        yield Delimiter(bytes([byte]), 255)


def _grown(data: bytes, at: int, wanted: int) -> Delimiter | None:
    """What stands at `at`, made just long enough to occur about `wanted` times."""
    needle = data[at : at + 1]
    count = data.count(needle)
    while count > 2 * wanted and len(needle) < MAX_NEEDLE:
        longer = data[at : at + len(needle) + 1]
        more = data.count(longer)
        if more < wanted:
            break
        needle, count = longer, more
    if count <= 2 * wanted:
        return Delimiter(needle, 255) if count else None
    following = sorted(found[0][-1] for found in re.finditer(re.escape(needle) + b".", data, re.DOTALL))
    return Delimiter(needle, following[min(wanted, len(following) - 1)]) if following else None
