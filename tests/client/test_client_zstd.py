"""Nothing is decompressed beyond its limit."""

import tracemalloc
from collections.abc import Callable

import pytest
import zstandard

from codesync.client.zstd import MALFORMED, MAX_WINDOW, inflate

MIB = 2**20


def streamed(data: bytes, level: int = 3) -> bytes:
    """A frame that does not declare its size."""
    compressor = zstandard.ZstdCompressor(level=level).compressobj()
    return compressor.compress(data) + compressor.flush()


def compressed(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


@pytest.mark.parametrize("write", [compressed, streamed])
@pytest.mark.parametrize("size", [0, 1, 512, 5 * MIB])
def test_what_is_within_the_limit_comes_out(write: Callable[[bytes], bytes], size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    assert inflate(write(data[:size]), size) == data[:size]


@pytest.mark.parametrize("write", [compressed, streamed])
def test_one_byte_beyond_the_limit_is_refused(write: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ValueError, match="the limit is 4096"):
        inflate(write(bytes(4097)), 4096)


@pytest.mark.parametrize("write", [compressed, streamed])
def test_a_bomb_costs_little_memory(write: Callable[[bytes], bytes]) -> None:
    bomb = write(bytes(256 * MIB))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="the limit"):
            inflate(bomb, MIB)
        assert tracemalloc.get_traced_memory()[1] < 48 * MIB
    finally:
        tracemalloc.stop()


def test_a_wide_window_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=24)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    frame = compressor.compress(b"x") + compressor.flush()
    with pytest.raises(ValueError, match=f"the limit is {MAX_WINDOW}"):
        inflate(frame, MIB)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"no zstd",
        compressed(b"x" * 99)[:-1],
        streamed(b"x")[:-1],
        compressed(b"x") + b"y",
        streamed(b"x") * 600,
    ],
)
def test_anything_but_one_frame_is_refused(frame: bytes) -> None:
    with pytest.raises(MALFORMED):
        inflate(frame, MIB)
