"""The form of a window: steps that copy from the basis, and what is left between them, compressed with the basis's text.

A window makes a stretch of the target by steps. Each takes `gap` bytes from the leftovers and then copies: from the
basis, or the last `period` bytes of the leftovers over and over. What the basis holds beside the gaps is the dictionary
that the leftovers are compressed with; both sides work out which ranges those are from the steps alone, so they cost
nothing. Field by field in docs/batch-format.md. This file does not know how steps are found; it believes nothing it
reads, and what it takes into memory is bounded by the constants below, however long the copies are.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import unpack
from typing import NamedTuple

from zstandard import (
    DICT_TYPE_RAWCONTENT,
    FORMAT_ZSTD1_MAGICLESS,
    ZstdCompressionDict,
    ZstdDecompressor,
    ZstdError,
)

from codesync.delta.errors import PatchError
from codesync.delta.ops import Copy, Window
from codesync.delta.reading import RandomAccess

MAX_STEPS = 1 << 13
MAX_LEFTOVERS = 1 << 19  # bytes
MAX_TEXT = 1 << 20  # bytes of the basis in one dictionary
MAX_PACKED = 1 << 18  # bytes of the steps, unpacked
MAX_DATA = MAX_LEFTOVERS + MAX_PACKED + (1 << 12)  # bytes of a whole window
_PIECE = 1 << 18
_MARGIN = 1 << 12  # bytes of text on either side of a gap, where gaps are few …
_MARGINS = 1 << 17  # … for this is shared by all …
_LEAST_MARGIN = 64  # … but no less than this is of use

GAP_FIRST, WHOLE = 1, 8  # flags; between them, in two bits, the form of the leftovers:
PLAIN, BLOCK, BLOCKS = 0, 1, 2
FEW = 15  # steps that still fit into the first byte, above the flags
# A frame begins with its flags, none of which is set, and its window, 2 MiB. These two bytes are not written.
FRAME = b"\x00\x58"
LAST_COMPRESSED = 5  # in a block's header of 3 bytes, below its size: the last one, and it is compressed
REPEATS = 1


class Step(NamedTuple):
    """`gap` bytes of the leftovers, then `length` bytes of the basis from `offset` on.

    Where `offset` is negative: the last `-offset` bytes of the leftovers taken so far, over and over.
    """

    gap: int
    offset: int
    length: int


def unpack_window(window: Window, basis: RandomAccess) -> Iterator[bytes]:
    """What a window makes, in pieces of at most 256 KiB that add up to `window.size` bytes.

    PatchError for anything malformed, or reaching outside the basis; what came before it is worth nothing then.
    """
    for part in parts(window, basis):
        if isinstance(part, Copy):
            yield from _copied(basis, part.offset, part.length)
        else:
            yield part


def parts(window: Window, basis: RandomAccess) -> Iterator[bytes | Copy]:
    """The same for who copies from the basis in a way of his own: all copies lie inside it, and none is empty."""
    steps, leftovers = _parse(window, basis)
    taken = 0
    for gap, offset, length in steps:
        yield from _pieces(leftovers, taken, gap)
        taken += gap
        if offset < 0:
            yield from _repeated(leftovers[taken + offset : taken], length)
        elif length:
            yield Copy(offset, length)


def _pieces(data: bytes, start: int, length: int) -> Iterator[bytes]:
    for at in range(start, start + length, _PIECE):
        yield data[at : min(at + _PIECE, start + length)]


def _copied(basis: RandomAccess, offset: int, length: int) -> Iterator[bytes]:
    while length:
        data = basis.read_at(offset, min(length, _PIECE))
        if not data:
            raise PatchError(f"the basis ends {length} bytes before the delta expects it to")
        offset += len(data)
        length -= len(data)
        yield data


def _repeated(data: bytes, length: int) -> Iterator[bytes]:
    data *= max(1, min(_PIECE, length) // len(data))
    while length > len(data):
        length -= len(data)
        yield from _pieces(data, 0, len(data))
    yield from _pieces(data, 0, length)


class _Numbers:
    """Unsigned LEB128 numbers one after the other, none above 2⁶³-1."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def next(self) -> int:
        number = shift = 0
        for at in range(self.at, min(self.at + 9, len(self.data))):
            byte = self.data[at]
            number |= (byte & 127) << shift
            if byte < 128:
                self.at = at + 1
                return number
            shift += 7
        raise PatchError("the delta is damaged: a window holds a number that does not end")


class _Columns:
    """The numbers of packed steps: first all gaps, then all sources, then all lengths but the last.

    Of a column first the number of bytes a number has, up to 8, then the lowest bytes of all, and so on.
    """

    def __init__(self, data: bytes, count: int) -> None:
        at = 0
        columns: list[list[int]] = []
        for length in (count, count, count - 1):
            width = data[at] if at < len(data) else 9
            stop = at + 1 + width * length
            if width > 8 or stop > len(data):
                raise PatchError("the delta is damaged: a window's steps are not as long as it says")
            numbers = bytearray(8 * length)
            for plane in range(width):
                numbers[plane::8] = data[at + 1 + plane * length : at + 1 + (plane + 1) * length]
            columns.append(list(unpack(f"<{length}Q", numbers)))
            at = stop
        if at != len(data):
            raise PatchError("the delta is damaged: a window's steps are not as long as it says")
        gaps, sources, lengths = columns
        lengths.append(0)
        self._numbers = [n for step in zip(gaps, sources, lengths, strict=True) for n in step]
        self._numbers.reverse()

    def next(self) -> int:
        return self._numbers.pop()


def _parse(window: Window, basis: RandomAccess) -> tuple[list[Step], bytes]:
    """The steps, all of them inside the basis, and the leftovers, exactly as many as they take."""
    data = window.data
    if not 1 <= len(data) <= MAX_DATA:
        raise PatchError(f"the delta is damaged: a window of {len(data)} bytes cannot be")
    head, numbers = data[0], _Numbers(data, 1)
    count, packed = head >> 4, 0
    if not count:
        count, packed = divmod(numbers.next(), 2)
    if not 1 <= count <= MAX_STEPS:
        raise PatchError(f"the delta is damaged: a window of {count} steps cannot be")
    if not packed:
        steps = _steps(numbers, count, bool(head & GAP_FIRST), window.size, basis.size)
        return steps, _inflated(data[numbers.at :], head, steps, basis)
    stop = numbers.next()
    stop += numbers.at
    if stop > len(data):
        raise PatchError("the delta is damaged: a window's steps are not as long as it says")
    columns = _Columns(_unpacked_steps(data[numbers.at : stop]), count)
    steps = _steps(columns, count, True, window.size, basis.size)
    return steps, _inflated(data[stop:], head, steps, basis)


def _steps(
    numbers: _Numbers | _Columns, count: int, gap_first: bool, size: int, basis_size: int
) -> list[Step]:
    steps = []
    here = taken = 0
    for number in range(count):
        gap = numbers.next() if number or gap_first else 0
        source = numbers.next()
        size -= gap
        taken += gap
        length = numbers.next() if number < count - 1 else size
        size -= length
        if length < 0 or size < 0 or taken > MAX_LEFTOVERS:
            raise PatchError("the delta is damaged: a window holds more than it says")
        if source & REPEATS:
            offset = -(source >> 1)
            fits = 1 <= -offset <= taken
        else:
            offset = here + gap + _unzigzag(source >> 1)
            here = offset + length
            fits = offset >= 0 and here <= basis_size
        if not fits:
            raise PatchError(f"{length} bytes from {offset} on are outside the basis of {basis_size} bytes")
        steps.append(Step(gap, offset, length))
    return steps


def _unpacked_steps(data: bytes) -> bytes:
    return _decompressed(ZstdDecompressor(format=FORMAT_ZSTD1_MAGICLESS), FRAME + data, MAX_PACKED)


def _unzigzag(number: int) -> int:
    return ~(number >> 1) if number & 1 else number >> 1


def _inflated(rest: bytes, head: int, steps: list[Step], basis: RandomAccess) -> bytes:
    length = sum(step.gap for step in steps)
    form = head >> 1 & 3
    if form == PLAIN:
        data = rest
    elif form > BLOCKS or not length:
        raise PatchError("the delta is damaged: a window's leftovers have a form that is not known here")
    else:
        if form == BLOCK:
            rest = (len(rest) << 3 | LAST_COMPRESSED).to_bytes(4, "little")[:3] + rest
        text = read_text(basis, ranges(steps, basis.size, whole=bool(head & WHOLE)))
        reader = ZstdDecompressor(dict_data=dictionary(text), format=FORMAT_ZSTD1_MAGICLESS)
        data = _decompressed(reader, FRAME + rest, length)
    if len(data) != length:
        raise PatchError("the delta is damaged: a window's leftovers are not as long as it says")
    return data


def _decompressed(reader: ZstdDecompressor, frame: bytes, most: int) -> bytes:
    try:
        return reader.decompress(frame, max_output_size=most, allow_extra_data=False)
    except ZstdError as error:
        raise PatchError(f"the delta is damaged: zstd says {error}") from None


def ranges(steps: list[Step], size: int, *, whole: bool) -> list[tuple[int, int]]:
    """Which ranges of a basis of `size` bytes are the dictionary, in order. Part of the format."""
    if whole:
        return [(0, min(size, MAX_TEXT))]
    margin = max(_LEAST_MARGIN, min(_MARGIN, _MARGINS // len(steps)))
    found: list[tuple[int, int]] = []
    end = -1  # of the last copy; unknown before the first
    for gap, offset, length in steps:
        if gap:
            if end >= 0 and 0 <= offset - end <= 4 * (gap + margin):
                _add(found, end - margin, offset + margin, size)
            else:
                if end >= 0:
                    _add(found, end - margin, end + gap + margin, size)
                if offset >= 0:
                    _add(found, offset - gap - margin, offset + margin, size)
        if offset >= 0:
            end = offset + length
    return _cut(found)


def _add(found: list[tuple[int, int]], start: int, stop: int, size: int) -> None:
    """One more range, or the last one made longer where it goes on."""
    start, stop = max(0, start), min(stop, size)
    if found and found[-1][0] <= start <= found[-1][1]:
        found[-1] = found[-1][0], max(stop, found[-1][1])
    elif start < stop:
        found.append((start, stop))


def _cut(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    kept, left = [], MAX_TEXT
    for start, stop in ranges:
        if left <= 0:
            break
        kept.append((start, min(stop, start + left)))
        left -= stop - start
    return kept


def read_text(basis: RandomAccess, ranges: list[tuple[int, int]]) -> bytes:
    return b"".join([basis.read_at(start, stop - start) for start, stop in ranges])


def dictionary(text: bytes) -> ZstdCompressionDict | None:
    # zstd knows no dictionary of less than 8 bytes
    return ZstdCompressionDict(text, dict_type=DICT_TYPE_RAWCONTENT) if len(text) >= 8 else None
