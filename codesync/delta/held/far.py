"""Where text may stand in a basis however far it has moved: an index of the basis's anchors.

An anchor is a delimiter with what follows it; the index knows, for the hash of each, one place where it stands. The
delimiter is a chain of classes of bytes, chosen from samples so that it occurs often enough. In a large basis the first
class is a single byte, which is found at the speed of memory; in a smaller one it has several, which is some times slower but leaves no
kind of text without anchors. The index is bounded: of too many anchors only those whose hash ends in zeros are
kept. What it finds is only a hint: the bytes decide.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from xxhash import xxh32_intdigest as hash32

from codesync.delta.reading import RandomAccess

_MOST = 1 << 17  # anchors kept, or nearly twice as many
_SPACING = 64  # bytes between two anchors, at least
_FOLLOWING = 32  # bytes behind the delimiter that count
_READ = 1 << 20
_SAMPLES = 64
_LARGE = 1 << 24  # bytes of a basis whose delimiter begins with one certain byte
_BYTES = 256
_FIRST_CLASS = 16  # a class has one byte of the text in so many, where there are such bytes; …
_CLASS = 4  # … so many behind the first; …
_LONGEST = 12  # … and a chain of them is no longer


class Far:
    """The index of a basis: reads it once, from front to back, at 0.3 to 1 GB/s."""

    def __init__(self, basis: RandomAccess) -> None:
        self.spacing = max(_SPACING, basis.size // _MOST)
        self._known: dict[int, int] = {}
        self._mask = 0
        self._search = _anchor(basis, self.spacing)
        self._fill(basis)

    def _fill(self, basis: RandomAccess) -> None:
        known = self._known
        for start in range(0, basis.size, _READ):
            data = basis.read_at(start, _READ + _LONGEST + _FOLLOWING)
            mask = self._mask
            for found in self._search.finditer(data):
                value = hash32(found[0])
                if not value & mask:
                    known[value] = start + found.start()
            while len(known) > 2 * _MOST:
                self._mask = mask = 2 * mask + 1
                self._known = known = {value: place for value, place in known.items() if not value & mask}

    def hints(self, text: bytes, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Places in `text` from `start` to `stop`, with the place in the basis where the same may stand."""
        known = self._known
        if known.keys().isdisjoint(map(hash32, self._search.findall(text, start, stop))):
            return
        for found in self._search.finditer(text, start, stop):
            place = known.get(hash32(found[0]))
            if place is not None:
                yield found.start(), place


def _anchor(basis: RandomAccess, spacing: int) -> re.Pattern[bytes]:
    """Matches a delimiter and the bytes behind it."""
    size = min(8 * spacing, 1 << 13)
    step = max(size, basis.size // _SAMPLES)
    sample = b"".join([basis.read_at(at, size) for at in range(0, basis.size, step)])
    return re.compile(_chain(sample, spacing, basis.size >= _LARGE) + b".{%d}" % _FOLLOWING, re.DOTALL)


def _chain(sample: bytes, spacing: int, single: bool) -> bytes:
    """Classes of bytes, one behind the other, that together occur about every `spacing` bytes; `single`: first one byte."""
    counts = Counter(sample)
    chain, share = b"", 1.0
    for number in range(_LONGEST):
        if share * spacing <= 1 or not counts:
            break
        if single and not number:
            members = [_apt(counts, len(sample) / _BYTES)]
        else:
            members = _class(
                counts, number, len(sample) / min(_CLASS if number else _FIRST_CLASS, share * spacing)
            )
        chain += b"[" + b"".join([b"\\x%02x" % byte for byte in members]) + b"]"
        share *= sum(counts[byte] for byte in members) / len(sample)
    return chain


def _class(counts: Counter[int], number: int, wanted: float) -> list[int]:
    """Bytes that occur about `wanted` times together; others for another `number`."""
    members, total = [], 0
    for byte in sorted(counts, key=lambda byte: hash32(bytes([byte, number]))):
        if total + counts[byte] <= 1.25 * wanted:
            members.append(byte)
            total += counts[byte]
    return members or [_apt(counts, wanted)]


def _apt(counts: Counter[int], wanted: float) -> int:
    """The byte whose count is nearest to `wanted`, as a ratio."""
    return min(counts, key=lambda byte: (max(counts[byte] / wanted, wanted / counts[byte]), byte))
