"""Many small pieces through one zstd stream, each to be had as soon as it is written; what will not compress costs a sample.

Pieces that are alike share what they have in common, which a frame for each would not. Reading takes no memory beyond a
size that the caller has checked, and the stream's window of 4 MiB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from codesync.delta.errors import PatchError

if TYPE_CHECKING:  # it is imported where it is used: a patch without anything packed does without
    from zstandard import ZstdCompressionObj, ZstdCompressor, ZstdDecompressionReader

_WINDOW_LOG = 22
_SAMPLE = 4096
# Well while little comes of it, quickly where it is much: at each level the time goes with the bytes that come out, some
# 40 ns for one at level 6. So this is 20 ms, and 0.6 ns for each byte of the target.
_WELL, _QUICKLY = 6, 1
_LITTLE = 1 << 19
_SHARE = 64


class Packer:
    """Packs pieces one after another. `expected`: bytes the target may have, if that is known. Memory: 8 MB."""

    def __init__(self, expected: int = 0) -> None:
        self._expected = expected
        self._probe: ZstdCompressor | None = None
        self._stream: ZstdCompressionObj | None = None
        self._level = _WELL
        self._packed = 0

    def pays(self, piece: bytes) -> bool:
        """Whether a sample from its middle becomes smaller by a sixteenth."""
        if self._probe is None:
            import zstandard

            self._probe = zstandard.ZstdCompressor(level=1)
        start = max(0, len(piece) - _SAMPLE) // 2
        sample = piece[start : start + _SAMPLE]
        return len(self._probe.compress(sample)) < len(sample) * 15 // 16

    def pack(self, piece: bytes, total: int) -> bytes:
        """What `Unpacker.unpack` makes `piece` of, in the same order. `total`: bytes of the target so far."""
        import zstandard

        ended = b""
        much = _LITTLE + max(total, self._expected) // _SHARE
        level = _WELL if self._packed < much else _QUICKLY
        if self._stream is None or level != self._level:
            ended = self._stream.flush() if self._stream else b""
            parameters = zstandard.ZstdCompressionParameters.from_level(
                level, window_log=_WINDOW_LOG, write_content_size=False
            )
            self._stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
            self._level = level
        packed = self._stream.compress(piece) + self._stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        self._packed += len(packed)
        return ended + packed


class _Fed:
    """What zstd is to unpack next. An object of its own: zstd's keeps hold of it, in no way that the collector could see."""

    def __init__(self) -> None:
        self.data = b""

    def read(self, size: int, /) -> bytes:
        """Called by zstd."""
        data, self.data = self.data[:size], self.data[size:]
        return data


class Unpacker:
    """Takes what a `Packer` made, in the same order."""

    def __init__(self) -> None:
        self._fed = _Fed()
        self._stream: ZstdDecompressionReader | None = None

    def unpack(self, data: bytes, size: int) -> bytes:
        """The `size` bytes that `data` stands for. PatchError where they are fewer, or no zstd at all.

        Where they are more, the next piece begins with the rest; nobody looks at what is more than the last one.
        """
        import zstandard

        if self._stream is None:
            decompressor = zstandard.ZstdDecompressor(max_window_size=1 << _WINDOW_LOG)
            self._stream = decompressor.stream_reader(self._fed, read_across_frames=True)  # type: ignore[arg-type]
        self._fed.data = data
        try:
            piece = self._stream.read(size)
        except zstandard.ZstdError as error:
            raise PatchError(f"the delta is damaged: {error}") from error
        if len(piece) < size or self._fed.data:
            raise PatchError("the delta is damaged: something packed has another size than it says")
        return piece
