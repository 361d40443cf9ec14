"""Steps and leftovers made into a window, as short as is quick.

`codesync.delta.window` knows the form and reads it. Here is decided what the form leaves open: whether steps are packed,
whether the dictionary is the whole basis, how hard zstd tries.
"""

from __future__ import annotations

from zstandard import FORMAT_ZSTD1_MAGICLESS, ZstdCompressionParameters, ZstdCompressor

from codesync.delta.ops import Window
from codesync.delta.reading import RandomAccess
from codesync.delta.window import (
    BLOCK,
    BLOCKS,
    FEW,
    FRAME,
    GAP_FIRST,
    LAST_COMPRESSED,
    MAX_TEXT,
    PLAIN,
    REPEATS,
    WHOLE,
    Step,
    dictionary,
    ranges,
    read_text,
)

_WORTH_DEFLATING = 12  # bytes of leftovers: less never gets shorter
_SMALL = 1 << 13  # a basis up to so many bytes is the dictionary as a whole …
_WHOLE_PAYS = 1024  # … and one up to so many times as long as the leftovers
_TRIAL = 1 << 14
_HOPELESS = 0.99


def pack_window(steps: list[Step], leftovers: bytes, basis: RandomAccess) -> Window:
    """The window that takes these steps, the last of which may be empty; `leftovers` is all their gaps, one after another."""
    size = sum(step.gap + step.length for step in steps)
    form, rest = _deflated(leftovers, steps, basis)
    count, body, head = len(steps), _written(steps), form | (GAP_FIRST if steps[0].gap else 0)
    if count <= FEW:
        return Window(size, bytes([head | count << 4]) + body + rest)
    packed = _packed(steps)
    if len(packed) + 2 < len(body):
        return Window(size, bytes([form]) + _leb128(count << 1 | 1) + _leb128(len(packed)) + packed + rest)
    return Window(size, bytes([head]) + _leb128(count << 1) + body + rest)


def _leb128(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _zigzag(number: int) -> int:
    return number << 1 if number >= 0 else ~(number << 1)


def _sources(steps: list[Step]) -> list[int]:
    here, sources = 0, []
    for gap, offset, length in steps:
        if offset >= 0:
            sources.append(_zigzag(offset - here - gap) << 1)
            here = offset + length
        else:
            sources.append(-offset << 1 | REPEATS)
    return sources


def _written(steps: list[Step]) -> bytes:
    """The steps as numbers one after the other."""
    numbers = [
        number
        for step, source in zip(steps, _sources(steps), strict=True)
        for number in (step.gap, source, step.length)
    ]
    return b"".join(map(_leb128, numbers[0 if steps[0].gap else 1 : -1]))


def _packed(steps: list[Step]) -> bytes:
    """The steps as columns, compressed."""
    columns = [step.gap for step in steps], _sources(steps), [step.length for step in steps[:-1]]
    out = []
    for column in columns:
        width = (max(column).bit_length() + 7) // 8
        raw = b"".join([number.to_bytes(width, "little") for number in column])
        out += [bytes([width]), *(raw[plane::width] for plane in range(width))]
    body = b"".join(out)
    return _compressed(body, b"", 19 if len(body) < 1 << 14 else 9)


def _deflated(leftovers: bytes, steps: list[Step], basis: RandomAccess) -> tuple[int, bytes]:
    """The leftovers in the shortest of their forms; first the flags that say which."""
    length = len(leftovers)
    if length < _WORTH_DEFLATING:
        return PLAIN << 1, leftovers
    whole = basis.size <= min(MAX_TEXT, max(_SMALL, length * _WHOLE_PAYS))
    text = read_text(basis, ranges(steps, basis.size, whole=whole))
    if length > 4 * _TRIAL and _is_hopeless(leftovers, text):
        return PLAIN << 1, leftovers
    blocks = _compressed(leftovers, text, _level(length + len(text)))
    if len(blocks) >= length:
        return PLAIN << 1, leftovers
    flags = WHOLE if whole else 0
    header = int.from_bytes(blocks[:3], "little")
    if header & 7 == LAST_COMPRESSED and header >> 3 == len(blocks) - 3:
        return flags | BLOCK << 1, blocks[3:]
    return flags | BLOCKS << 1, blocks


def _level(size: int) -> int:
    """zstd's, for so much to be compressed, dictionary and all: higher ones take ten times as long for 3 % less."""
    return 6 if size <= 1 << 19 else 3


def _is_hopeless(leftovers: bytes, text: bytes) -> bool:
    """Whether a piece from the middle gets no shorter with the text around its place."""
    at = len(leftovers) // 2
    middle = len(text) * at // len(leftovers)
    piece = leftovers[at : at + _TRIAL]
    return (
        len(_compressed(piece, text[max(0, middle - 2 * _TRIAL) : middle + 4 * _TRIAL], 1))
        > _HOPELESS * _TRIAL
    )


def _compressed(data: bytes, text: bytes, level: int) -> bytes:
    """One frame without its header of two bytes."""
    params = ZstdCompressionParameters.from_level(
        level,
        source_size=len(data),
        dict_size=len(text),
        format=FORMAT_ZSTD1_MAGICLESS,
        write_content_size=False,
        write_dict_id=False,
    )
    return ZstdCompressor(compression_params=params, dict_data=dictionary(text)).compress(data)[len(FRAME) :]
