"""Anchors: places in a block that show in any target that holds the block, wherever it has moved to.

A delimiter is a short needle, with a byte of a certain range behind it, chosen from samples so that it occurs about a dozen
times a block. An anchor is the first delimiter of a block that is isolated: no other one begins in the span before it,
which is as long as what an anchor's value is a hash of: the delimiter and the 48 bytes behind it. Whoever goes through a target
from anywhere before such a block, and jumps over the span of every delimiter met, cannot jump over the anchor: so wherever
a block stands its anchor is met. (How many comparisons that may lead to is bounded: `match`.) Regular expressions do
this at the speed of memory; that is all the reason for anchors. The edge of a long run of equal bytes is an anchor too.

This file knows bytes only: no files, no signatures.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from xxhash import xxh32_intdigest as hash32

from codesync.delta.runs import LONG, Run, runs

__all__ = [
    "EDGE",
    "MAX_DELIMITERS",
    "MAX_NEEDLE",
    "NO_ANCHOR",
    "OFFSET_BITS",
    "VALUE_BITS",
    "VALUE_MASK",
    "Delimiter",
    "Finder",
    "choose",
    "edge_value",
    "edges",
    "hash32",
]

OFFSET_BITS = 13  # an anchor lies in the first 8 KiB of its block
VALUE_BITS = 32 - OFFSET_BITS
VALUE_MASK = (1 << VALUE_BITS) - 1
MAX_NEEDLE = 8
MAX_DELIMITERS = 4
EDGE = 48  # bytes on each side of the edge of a run that count
NO_ANCHOR = -1
_REACH = 1 << OFFSET_BITS
_FOLLOWING = 48  # bytes behind the delimiter that count
_DENSITY = 12  # delimiters wanted in a block's first 8 KiB
_TRIES = 6  # delimiters of each kind that are tried on the samples
_SHARED = 4  # blocks that may have anchors of the same value
_LOOKS = 12  # delimiters of a block that are looked at
_JOINED = 12  # samples that delimiters are taken from; all are asked what these are worth
_FOLLOWERS = 1000
_OF_USE = 0.1
_ENOUGH = 0.85  # no better delimiter is looked for
_COUNTED = 1 << 14  # bytes of the samples that are counted one by one


class Delimiter(NamedTuple):
    """`needle`, 1 to 8 bytes, and behind it a byte from `low` to `high`."""

    needle: bytes
    low: int = 0
    high: int = 255

    @property
    def span(self) -> int:
        """The bytes that an anchor's value is made of."""
        return len(self.needle) + 1 + _FOLLOWING

    def pattern(self) -> re.Pattern[bytes]:
        """Matches a delimiter and what follows it, `span` bytes."""
        low, high = re.escape(bytes([self.low])), re.escape(bytes([self.high]))
        behind = b"." if high == b"\xff" and not self.low else b"[" + low + b"-" + high + b"]"
        return re.compile(re.escape(self.needle) + behind + b".{%d}" % _FOLLOWING, re.DOTALL)


def edges(run: Run) -> Iterator[int]:
    """Where the run begins and where it ends, as far as that is known."""
    if run.starts_sharp:
        yield run.start
    if run.stops_sharp:
        yield run.stop


def edge_value(data: bytearray | bytes | memoryview, edge: int) -> int:
    """The value of the anchor that the edge of a run is, which has `EDGE` bytes before and behind it."""
    return hash32(data[edge - EDGE : edge + EDGE]) & VALUE_MASK


class Finder:
    """Finds each block's anchor; of several those whose value few earlier blocks have."""

    def __init__(self, delimiters: Sequence[Delimiter], *, edges: bool = True, shared: int = _SHARED) -> None:
        self._searches = [(delimiter.pattern().search, delimiter.span) for delimiter in delimiters]
        self._seen: dict[int, int] = {}
        self._edges, self._shared = edges, shared
        self.uses_edges = False

    def mark(self, data: bytearray | bytes, size: int, blocks: Sequence[int]) -> dict[int, int]:
        """Block → `offset << 19 | value` of its anchor, of those of `blocks` (each of `size` bytes in `data`) that have one."""
        marks: dict[int, int] = {}
        for search, span in self._searches:
            if blocks:
                blocks = self._mark(marks, _Blocks(data, size, blocks), search, span)
        for block in blocks if self._edges else ():
            mark = self._edge(data, block * size, (block + 1) * size)
            if mark != NO_ANCHOR:
                marks[block] = mark
                self.uses_edges = True
        return marks

    def _edge(self, data: bytearray | bytes, start: int, stop: int) -> int:
        """The mark of the first edge of a run in `data[start:stop]` that tells something."""
        for run in runs(data, start, stop, start, stop):
            if run.stop - run.start < LONG:
                continue
            for edge in edges(run):
                if start <= edge - EDGE <= stop - 2 * EDGE and edge - start < _REACH:
                    value = edge_value(data, edge)
                    if self._seen.get(value, 0) < self._shared:
                        self._seen[value] = self._seen.get(value, 0) + 1
                        return (edge - start) << VALUE_BITS | value
        return NO_ANCHOR

    def _mark(
        self, marks: dict[int, int], of: _Blocks, search: Callable[..., re.Match[bytes] | None], span: int
    ) -> list[int]:
        """Mark those blocks that have an anchor by this delimiter, and return the others."""
        data, size, blocks = of
        shared = self._shared
        seen, reach, left = self._seen, min(size, _REACH - 1 + span), []
        for block in blocks:
            start = block * size
            stop, free = start + reach, start + span - 1  # from `free` on a delimiter is isolated
            found, looks = search(data, start, stop), _LOOKS
            while found is not None and looks:
                at = found.start()
                if at >= free:
                    value = hash32(found[0]) & VALUE_MASK
                    sharing = seen.get(value, 0)
                    if sharing < shared:
                        seen[value] = sharing + 1
                        marks[block] = (at - start) << VALUE_BITS | value
                        break
                free = at + span
                looks -= 1
                found = search(data, at + 1, stop)
            else:
                left.append(block)
        return left


class _Blocks(NamedTuple):
    data: bytearray | bytes
    size: int
    numbers: Sequence[int]


def choose(samples: list[bytes], block_size: int) -> tuple[Delimiter, ...]:
    """At most four delimiters, each the best for the samples that those before it leave without an anchor.

    The best one gives most samples an anchor of their own. None is chosen that hardly any sample has a use for. Deterministic: the same samples give the same delimiters.
    """
    chosen: list[Delimiter] = []
    samples = list(filter(None, samples))
    while len(samples) > 1 and len(chosen) < MAX_DELIMITERS:
        delimiter = _best(samples, block_size)
        if delimiter is None:
            break
        chosen.append(delimiter)
        samples = _unmarked(delimiter, samples)
    return tuple(chosen)


def _best(samples: list[bytes], block_size: int) -> Delimiter | None:
    data = b"".join(samples[:: max(1, len(samples) // _JOINED)])
    wanted = len(data) * _DENSITY // min(block_size, _REACH) + 1
    best, score = None, _OF_USE
    for delimiter in dict.fromkeys(_candidates(data, wanted)):
        worth = 1 - len(_unmarked(delimiter, samples)) / len(samples)
        if worth > score:
            best, score = delimiter, worth
            if score >= _ENOUGH:
                break
    return best


def _unmarked(delimiter: Delimiter, samples: list[bytes]) -> list[bytes]:
    """The samples without an anchor that no sample before them has."""
    finder = Finder([delimiter], edges=False, shared=1)
    return [sample for sample in samples if not finder.mark(sample, len(sample), (0,))]


def _candidates(data: bytes, wanted: int) -> Iterator[Delimiter]:
    """First single bytes, which are found fastest, that occur about so often; then what stands here and there."""
    part = data[:: max(1, len(data) // _COUNTED)]
    counts, apt = Counter(part), wanted * len(part) / len(data)
    near = [byte for byte, count in counts.items() if apt <= 2 * count <= 4 * apt]
    for byte in sorted(near, key=lambda byte: (abs(counts[byte] - apt), byte))[:_TRIES]:
        yield Delimiter(bytes([byte]))
    ((common, count),) = counts.most_common(1)
    if count * 5 > len(part):  # where runs of it end
        if common < 255:
            yield Delimiter(bytes([common]), common + 1, 255)
        if common > 0:
            yield Delimiter(bytes([common]), 0, common - 1)
    for number in range(2 * _TRIES):
        at = len(data) * (2 * (number * 7 % (2 * _TRIES)) + 1) // (4 * _TRIES)
        if (delimiter := _grown(data, at, wanted)) is not None:
            yield delimiter


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
        return Delimiter(needle) if count else None
    found = re.findall(re.escape(needle) + b"(.)", data, re.DOTALL)
    following = sorted(found[:_FOLLOWERS])
    share = wanted * len(following) // count
    return Delimiter(needle, 0, following[min(share, len(following) - 1)][0]) if following else None
