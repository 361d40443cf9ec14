"""Reading what another machine has compressed: no more than a limit ever comes out, whatever it declares of itself."""

from __future__ import annotations

import msgpack
import zstandard

MAX_WINDOW = 8 * 1024 * 1024  # bytes a frame may make us keep while it is read
_SLICE = 512  # bytes in: a block of 4 can stand for 128 KiB, so at most 16 MiB come out of one slice

# what data of a wrong shape raises, here, in the two libraries, and where it is used
MALFORMED = (
    zstandard.ZstdError,
    msgpack.UnpackException,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    MemoryError,
    RecursionError,
)


def inflate(frame: bytes, limit: int) -> bytes:
    """Decompress one whole zstd frame to at most `limit` bytes.

    Raises:
        ValueError: it holds more, wants a window above 8 MiB, is cut short, or something follows it.
        zstandard.ZstdError: it is not zstd, or damaged.
    """
    declared = zstandard.get_frame_parameters(frame)
    if declared.window_size > MAX_WINDOW:
        raise ValueError(f"a window of {declared.window_size} bytes; the limit is {MAX_WINDOW}")
    if declared.content_size != zstandard.CONTENTSIZE_UNKNOWN:
        _check(declared.content_size, limit)
    inflater = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj()
    content = bytearray()
    for start in range(0, len(frame), _SLICE):
        if inflater.eof:
            raise ValueError("something follows the frame")
        content += inflater.decompress(frame[start : start + _SLICE])
        _check(len(content), limit)
    if not inflater.eof or inflater.unused_data:
        raise ValueError("not exactly one frame")
    return bytes(content)


def _check(size: int, limit: int) -> None:
    if size > limit:
        raise ValueError(f"{size} bytes decompressed; the limit is {limit}")
