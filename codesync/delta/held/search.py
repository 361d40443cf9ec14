"""Where a target goes on as the basis does: what is cheap and likely first, then what is far, never more than a bound.

Where a match has ended, the text goes on most often at the same distance (bytes overwritten), or as far from its end as
in the basis; next most often a little before or after (bytes put in or taken out), which a few probes find; else an
anchor may tell. Every answer has been compared byte by byte. The search in one stretch of the target costs at most a
fixed number of looks, and where matches are short and many ever longer ones are asked for: the work is linear in
the target for any content. This file knows neither steps nor windows.
"""

from __future__ import annotations

from typing import NamedTuple

from codesync.delta.held.compare import common_prefix, common_suffix, first_run
from codesync.delta.held.far import Far
from codesync.delta.reading import RandomAccess

STRETCH = 1 << 16  # bytes of the target that are searched at once
MAX_PERIOD = 1 << 18  # bytes of what is repeated
_LEAST_REPEAT = 1 << 15  # bytes of a repetition; of a shorter one zstd makes as little
_MOST_READ = 1 << 18  # bytes that are compared at once

_LEASTS = (2048, 32), (700, 512)  # bytes between two steps, on the average, and of a match then worth one …
_MOST_LEAST = 1 << 12  # … or else
_FREE = 1 << 23  # bytes' worth of steps that do not count
_LEAST_FAR = 64  # bytes of a match that takes more bytes to write down
_WORK = 16  # bytes looked through for a byte of the target, on the average, at most …
_FREE_WORK = 1 << 26  # … but for so many

_FIRST_LOOK = 512  # bytes behind a match that are compared with what stands where they would
_OVERWRITTEN = 1 << 17  # bytes; behind more than that only anchors tell that the text goes on as before
_PROBE = 32  # bytes of a piece that is looked for
_GRAIN = 1 << 12  # bytes of a match that are looked at to judge it
_ENOUGH = 1 << 9  # bytes in common: no better match is looked for
_SHORT = 1 << 13  # bytes between the ends of two matches, if they are short

_NO_INDEX = 1 << 16  # bytes of a basis that the leftovers' dictionary can hold as a whole
_WIDE = 128  # bytes of a gap that are worth looking for far away
_WORTH_INDEXING = 1 << 16  # bytes of the basis for every byte not found
_LOOKS = 16  # hints that are followed in one stretch
_SCANS = 8  # times that a basis without an index is gone through …
_SCANNED = 1 << 22  # … if it has no more bytes than this


class _Probes(NamedTuple):
    """How far behind the end of a match pieces are taken from, and on either side of it, how far away they are looked for."""

    ahead: tuple[int, ...]
    reach: int


_NEAR = _Probes((-16, 0, 24, 64, 160), 1 << 14)
_FARTHER = _Probes((400, 1000, 2500, 6000, 15000, 38000), 1 << 17)


class Match(NamedTuple):
    """`text[at:]` goes on as the basis from `offset` on, or, where that is negative, as it did `-offset` bytes ago."""

    at: int
    offset: int


class Search:
    """Finds matches in a text that goes by: `find` is asked from the front to the back."""

    def __init__(self, basis: RandomAccess) -> None:
        self._basis = basis
        self._far: Far | None = None
        self._is_far = False  # the last match but those beside was
        self._near_misses = 0
        self._work = 0  # bytes looked through
        self._missed = 0  # bytes that nothing else has found
        self._scans = 0
        self._last = 0  # where a match ended last
        self._short = 0  # matches in a row that were short
        self.steps = 0  # matches taken
        self.passed = 0  # bytes of the target before `text`

    def find(self, text: bytes, start: int, at: int, place: int, *, ended: bool) -> Match | None:
        """The next match in `text` between `at` and `at + STRETCH`; from `start` on, up to `at`, there is none.

        `place`: where the basis would go on if `text[start:]` did as before. `ended`: the target ends with `text`.
        """
        least = self._least(at)
        if self._work > _WORK * (self.passed + at) + _FREE_WORK:
            return self._beside(text, start, place, _FIRST_LOOK, least) if at == start else None
        match = self._after_a_match(text, start, place, least, ended=ended) if at == start else None
        if match is None:
            match = self._in_stretch(text, start, at, place, least)
        stop = min(at + STRETCH, len(text)) if match is None else match.at
        if stop - start >= _WIDE and self._basis.size > _NO_INDEX:
            match = self._moved(text, start, at, stop, least) or match
        return match or self._by_itself(text, at)

    def forget(self, size: int) -> None:
        """So many bytes have gone from the front of the text."""
        self.passed += size
        self._last -= size

    def length(self, text: bytes, at: int, offset: int) -> int:
        """How far `text[at:]` and the basis from `offset` on are the same."""
        start, size = at, 1024
        while at < len(text):
            size = min(size, len(text) - at)
            data = self._basis.read_at(offset, size)
            same = common_prefix(data, text[at : at + len(data)])
            at += same
            offset += same
            if same < size:
                break
            size = min(2 * size, _MOST_READ)
        return at - start

    def _least(self, at: int) -> int:
        for distance, least in _LEASTS:
            if self.steps * distance <= self.passed + at + _FREE:
                return least
        return _MOST_LEAST

    def _after_a_match(self, text: bytes, start: int, place: int, least: int, *, ended: bool) -> Match | None:
        """What is likely where a match has just ended."""
        self._short = self._short + 1 if start - self._last < _SHORT else 0
        self._last = start
        match = self._beside(text, start, place, _FIRST_LOOK, least)
        if match is None and ended:
            match = self._beside(text, start, self._basis.size - (len(text) - start), _FIRST_LOOK, least)
        if match is not None and self._short >= 4 and not self._short & (self._short - 1):
            _, length = self._extended(text, start, *match)
            return self._by_probes(text, start, place, 2 * length, _NEAR) or match
        if match is None and self._is_far and self._far is not None:
            match = self._by_anchors(text, start, start, start + 16 * self._far.spacing, least)
        if match is None and (self._near_misses < 4 or self._near_misses % 8 == 0):
            match = self._by_probes(text, start, place, least, _NEAR)
            match = match or self._by_probes(text, start, place, least, _FARTHER)
            self._near_misses = 0 if match else self._near_misses + 1
            self._is_far &= match is None
        return match

    def _in_stretch(self, text: bytes, start: int, at: int, place: int, least: int) -> Match | None:
        if at - start > _OVERWRITTEN:
            return None
        back = max(start, at - least)
        return self._beside(text, back, place + back - start, STRETCH, least)

    def _moved(self, text: bytes, start: int, at: int, stop: int, least: int) -> Match | None:
        """A match that anchors tell of before `stop`."""
        if self._far is None:
            self._missed += stop - at
            if stop - start < STRETCH and self._missed * _WORTH_INDEXING < self._basis.size:
                return self._anywhere(text, start, (start + stop) // 2, least)
            self._far = Far(self._basis)
            at = start
        match = self._by_anchors(text, start, at, stop, least)
        self._is_far = match is not None
        return match

    def _anywhere(self, text: bytes, start: int, at: int, least: int) -> Match | None:
        """The same without anchors, where the basis is small and this has not been tried often."""
        self._scans += 1
        if self._scans > _SCANS or self._basis.size > _SCANNED:
            return None
        found = self._basis.read_at(0, self._basis.size).find(text[at : at + _PROBE])
        if found < 0:
            return None
        match, length = self._extended(text, start, at, found)
        return match if length >= max(least, _LEAST_FAR) else None

    def _beside(self, text: bytes, start: int, place: int, size: int, least: int) -> Match | None:
        """Text that stands where it would if bytes had only been overwritten."""
        if place < 0:
            return None
        data = self._basis.read_at(place, min(size, len(text) - start))
        self._work += len(data)
        run = first_run(data, text[start : start + len(data)], least)
        return None if run < 0 else Match(start + run, place + run)

    def _by_probes(self, text: bytes, start: int, place: int, least: int, probes: _Probes) -> Match | None:
        """Text that has moved a little: pieces from behind `start` are looked for on both sides of `place`."""
        low = max(0, place - probes.reach)
        data = self._basis.read_at(low, place - low + probes.reach)
        middle = place - low
        self._work += len(data)
        best, most, seen = None, least - 1, {middle}  # there it is not, or `_beside` knows
        for ahead in probes.ahead:
            probe = text[max(0, start + ahead) : start + ahead + _PROBE]
            if len(probe) < _PROBE or _is_monotonous(probe):
                continue
            for found in (data.find(probe, middle), data.rfind(probe, 0, middle + _PROBE)):
                if found < 0 or found - ahead in seen:
                    continue
                seen.add(found - ahead)
                match, length = self._extended(text, start, start + ahead, low + found)
                if length > most:
                    best, most = match, length
                    if length >= _ENOUGH:
                        return best
        return best

    def _by_anchors(self, text: bytes, start: int, at: int, stop: int, least: int) -> Match | None:
        best, most, seen = None, max(least, _LEAST_FAR) - 1, set[int]()
        assert self._far is not None
        stop = min(stop, len(text))
        self._work += 2 * (stop - at)
        for place, offset in self._far.hints(text, at, stop):
            if offset - place in seen:
                continue
            seen.add(offset - place)
            match, length = self._extended(text, start, place, offset)
            if length > most:
                best, most = match, length
            if len(seen) == _LOOKS or (best and (most >= _ENOUGH or best.at == start)):
                break
        return best

    def _extended(self, text: bytes, start: int, at: int, offset: int) -> tuple[Match, int]:
        """The match made longer backwards, and its length, which is not looked after beyond `_GRAIN` bytes."""
        if at < start:
            at, offset = start, offset + start - at
        self._work += _GRAIN
        ahead = min(_GRAIN, len(text) - at)
        data = self._basis.read_at(offset, ahead)
        length = common_prefix(data, text[at : at + len(data)])
        size = 256
        while start < at and offset:
            size = min(size, at - start, offset)
            same = common_suffix(self._basis.read_at(offset - size, size), text[at - size : at])
            at, offset, length = at - same, offset - same, length + same
            if same < size:
                break
            size = min(4 * size, STRETCH)
        return Match(at, offset), length

    def _by_itself(self, text: bytes, at: int) -> Match | None:
        """Text that goes on as it has just done, over and over."""
        probe = text[at : at + _PROBE]
        self._work += STRETCH
        again = text.find(probe, at + 1, at + MAX_PERIOD + _PROBE)
        if again < 0 or len(probe) < _PROBE:
            return None
        period = again - at
        if repeated(text, again, period, _LEAST_REPEAT) < _LEAST_REPEAT:
            return None
        return Match(again, -period)


def repeated(text: bytes, at: int, period: int, most: int) -> int:
    """How many bytes from `at` on, not looking beyond `most`, are what stands `period` bytes before them."""
    start, stop = at, min(at + most, len(text))
    while at < stop:
        size = min(STRETCH, stop - at)
        same = common_prefix(text[at - period : at - period + size], text[at : at + size])
        at += same
        if same < size:
            break
    return at - start


def _is_monotonous(probe: bytes) -> bool:
    return any(probe[period:] == probe[:-period] for period in (1, 2, 3, 4))
