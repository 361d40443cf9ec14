"""The delta when the basis itself is at hand, not only its signature: exact matches, and windows for what they leave.

The target is read once, front to back, some MiB ahead; of the basis pieces are read wherever they are wanted. Matches are
taken as far as they go, byte by byte (`search`); what lies between them is compressed with the basis's text around it
(`codesync.delta.window`). So an edit costs about as much as itself, wherever it stands. Memory does not grow with either
file. This file only puts matches and gaps together.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO

from codesync.delta.held.compare import common_suffix
from codesync.delta.held.pack import pack_window
from codesync.delta.held.search import MAX_PERIOD, STRETCH, Match, Search, repeated
from codesync.delta.ops import Copy, Op
from codesync.delta.reading import RandomAccess, Readable, random_access, read_fully
from codesync.delta.window import MAX_LEFTOVERS, MAX_STEPS, Step

_AHEAD = 1 << 21  # bytes of the target that are read at once …
_LOW = 1 << 19  # … when fewer than these are left
_SMALL = 1 << 22  # a basis up to so many bytes is read as a whole
_SHORT = 1 << 12  # bytes of a copy that a later one may take in
_LAST = 4  # bytes at the end of both files worth a step


def held_delta(basis: bytes | BinaryIO, target: bytes | Readable) -> Iterator[Op]:
    """The operations that make `target` from `basis`, in order, as the target is read: windows, or one copy.

    `basis`: bytes, or a seekable binary file. Memory: some 30 MiB, 50 at most, however large they are.
    """
    source = random_access(basis)
    if source.size <= _SMALL:
        source = random_access(source.read_at(0, source.size))
    text = _Text(target)
    maker = _Maker(source)
    search = Search(source)
    here = 0  # where the basis goes on behind the last copy, and a gap as long as what has been left out
    while text.refill(search):
        match = search.find(text.data, text.start, text.at, here, ended=text.ended)
        if match is None:
            text.at = min(text.at + STRETCH, len(text.data))
            if text.at - text.start >= MAX_LEFTOVERS:
                here += text.at - text.start
                yield from maker.leave(text.take(text.at), here)
            continue
        if match.offset >= 0:
            yield from maker.leave(text.take(match.at), match.offset)
        else:
            yield from maker.leave(text.take(match.at + match.offset), here)
            yield from maker.leave_together(text.take(match.at), here - match.offset)
        length = 0
        while more := _length(text, search, match, length):
            length += more
            text.at = text.start = text.at + more
            if text.at < len(text.data) or not text.refill(search):
                break
        here = match.offset + length if match.offset >= 0 else here + length
        search.steps += 1
        yield from maker.copy(match.offset, length)
    yield from maker.end(text.take(len(text.data)), here)


def _length(text: _Text, search: Search, match: Match, length: int) -> int:
    """How far the match goes on in what has been read, `length` bytes of it being known."""
    if match.offset >= 0:
        return search.length(text.data, text.at, match.offset + length)
    return repeated(text.data, text.at, -match.offset, len(text.data))


class _Text:
    """The target as it goes by: `data[start:at]` has been searched and found nowhere, what was before is done."""

    def __init__(self, target: bytes | Readable) -> None:
        self._file: Readable | None = None
        self.ended = isinstance(target, bytes)
        self.data = b""
        if isinstance(target, bytes):
            self.data = target
        else:
            self._file = BytesIO(target) if isinstance(target, bytearray | memoryview) else target
        self.start = self.at = 0

    def refill(self, search: Search) -> bool:
        """Read on if little is left; whether anything is."""
        if not self.ended and len(self.data) - self.at < _LOW:
            assert self._file is not None
            keep = max(0, self.start - MAX_PERIOD)
            fresh = read_fully(self._file, _AHEAD)
            self.ended = len(fresh) < _AHEAD
            self.data = self.data[keep:] + fresh
            self.start -= keep
            self.at -= keep
            search.forget(keep)
        return self.at < len(self.data)

    def take(self, stop: int) -> bytes:
        """The bytes up to `stop`, which are done then."""
        data = self.data[self.start : stop]
        self.start = self.at = stop
        return data


class _Maker:
    """Steps and leftovers, put into windows as these get full."""

    def __init__(self, basis: RandomAccess) -> None:
        self._basis = basis
        self._steps: list[Step] = []
        self._leftovers = bytearray()
        self._gap = 0

    def leave(self, data: bytes, place: int) -> Iterator[Op]:
        """Bytes that match nothing; `place` is where the basis goes on behind them, as far as is known."""
        at = 0
        while at < len(data):
            if len(self._leftovers) == MAX_LEFTOVERS:
                yield from self._flush(place - (len(data) - at))
            piece = data[at : at + MAX_LEFTOVERS - len(self._leftovers)]
            self._leftovers += piece
            self._gap += len(piece)
            at += len(piece)

    def leave_together(self, data: bytes, place: int) -> Iterator[Op]:
        """The same for bytes that a repetition is made of: they must be in its window."""
        if len(self._leftovers) + len(data) > MAX_LEFTOVERS:
            yield from self._flush(place - len(data))
        yield from self.leave(data, place)

    def copy(self, offset: int, length: int) -> Iterator[Op]:
        """Bytes of the basis, or, where `offset` is negative, of the leftovers."""
        if offset >= 0:
            offset, length = self._absorb(offset, length)
        self._steps.append(Step(self._gap, offset, length))
        self._gap = 0
        if len(self._steps) == MAX_STEPS:
            yield from self._flush(0)

    def _absorb(self, offset: int, length: int) -> tuple[int, int]:
        """A copy made longer backwards over short ones, which were only the best known when they were made."""
        while self._steps and not self._gap:
            gap, before, short = self._steps[-1]
            if before < 0 or short > min(_SHORT, offset):
                break
            if self._basis.read_at(before, short) != self._basis.read_at(offset - short, short):
                break
            self._steps.pop()
            offset, length, self._gap = offset - short, length + short, gap
            same = self._shared(offset, gap)
            if same:
                del self._leftovers[-same:]
                offset, length, self._gap = offset - same, length + same, gap - same
        return offset, length

    def _shared(self, offset: int, gap: int) -> int:
        size = min(gap, offset, _SHORT)
        return (
            common_suffix(self._basis.read_at(offset - size, size), bytes(self._leftovers[-size:]))
            if size
            else 0
        )

    def end(self, data: bytes, place: int) -> Iterator[Op]:
        """The last bytes of the target, which match nothing but perhaps the last few of the basis."""
        size = min(len(data), self._basis.size)
        tail = self._basis.read_at(self._basis.size - size, size)
        same = common_suffix(tail, data[len(data) - size :])
        if same < _LAST:
            same = 0
        yield from self.leave(data[: len(data) - same], place + len(data))
        if same:
            yield from self.copy(self._basis.size - same, same)
        yield from self._flush(place + len(data))

    def _flush(self, place: int) -> Iterator[Op]:
        if self._gap:
            self._steps.append(Step(self._gap, max(0, min(place, self._basis.size)), 0))
        if len(self._steps) == 1 and not self._leftovers:
            yield Copy(self._steps[0].offset, self._steps[0].length)
        elif self._steps:
            yield pack_window(self._steps, bytes(self._leftovers), self._basis)
        self._steps, self._leftovers, self._gap = [], bytearray(), 0
