"""How a manifest is written down for the wire: its columns, packed. Versioned and checked.

MAGIC, XXH3-128 of all that follows it, length of the columns (8 bytes), the columns as one zstd frame. The columns:
four counts of 8 bytes (entries, and bytes of the last three columns), then kinds (a letter each), modes (2 bytes),
mtimes and sizes (8 bytes), digests (32 bytes, zeros where there is no file), and, each joined by NUL: paths, targets of
the symlinks, what was skipped (path and reason by turns). Counts and lengths are big-endian, numbers in columns
little-endian.

Reading costs little more than decompressing: what the paths are is looked at when the first of them is needed, by
`complete`. Nothing is decompressed beyond the size it declares, nor before that is known to be within the limit.
"""

from __future__ import annotations

import re
import struct
import sys
from array import array
from collections.abc import Sequence
from typing import NamedTuple

import zstandard
from xxhash import xxh3_128_digest

from codesync.delta.errors import ManifestError
from codesync.delta.manifest.columns import DIGEST, DIRECTORY, SYMLINK, Columns
from codesync.delta.manifest.entry import MAX_PATH, Skipped, check_skipped
from codesync.delta.manifest.paths import check_paths

VERSION = 2
MAGIC = b"codesync manifest %d\n" % VERSION
MAX_COLUMNS = 128 * 1024 * 1024  # bytes, decompressed
MAX_ENTRIES = 1_000_000
MAX_SKIPPED = 100_000
_HEAD = struct.Struct(">16sQ")
_COUNTS = struct.Struct(">4Q")
_IS_DIRECTORY = bytes(byte == DIRECTORY for byte in range(256))


class Packed(NamedTuple):
    """What was read: columns whose `paths` are still empty, the paths as they are joined, and what was skipped."""

    columns: Columns
    paths: bytes
    skipped: tuple[Skipped, ...]


def pack(columns: Columns, skipped: Sequence[Skipped]) -> bytes:
    """Write columns down; ManifestError where `unpack` would refuse them as too many."""
    body = join(columns, skipped)
    if len(columns.kinds) > MAX_ENTRIES or len(body) > MAX_COLUMNS:
        raise ManifestError(
            f"{len(columns.kinds)} paths are more than a manifest may hold; ignore what is not code"
        )
    rest = len(body).to_bytes(8, "big") + zstandard.ZstdCompressor(level=3).compress(body)
    return MAGIC + xxh3_128_digest(rest) + rest


def join(columns: Columns, skipped: Sequence[Skipped]) -> bytes:
    """All columns, one after the other."""
    paths, targets = b"\0".join(columns.paths), b"\0".join(columns.targets)
    left_out = b"\0".join([part for path, reason in skipped for part in (path, _encode(reason))])
    return b"".join(
        [
            _COUNTS.pack(len(columns.kinds), len(paths), len(targets), len(left_out)),
            columns.kinds,
            *map(number_bytes, (columns.modes, columns.mtimes, columns.sizes)),
            columns.digests,
            paths,
            targets,
            left_out,
        ]
    )


def unpack(data: bytes) -> Packed:
    """Read what `pack` wrote; ManifestError where it is anything else. The paths are for `complete` to check."""
    start = len(MAGIC)
    if data[:start] != MAGIC:
        raise ManifestError(_other_version(data))
    if (
        len(data) < start + _HEAD.size
        or xxh3_128_digest(memoryview(data)[start + 16 :]) != data[start : start + 16]
    ):
        raise ManifestError("the manifest is damaged or cut short")
    size = int.from_bytes(data[start + 16 : start + 24], "big")
    if size > MAX_COLUMNS:
        raise ManifestError(f"the manifest wants {size} bytes; the limit is {MAX_COLUMNS}")
    try:
        return split(_decompress(memoryview(data)[start + _HEAD.size :], size))
    except (ValueError, struct.error, zstandard.ZstdError) as error:
        raise ManifestError(f"the manifest contradicts itself ({type(error).__name__})") from error


def _other_version(data: bytes) -> str:
    found = re.match(rb"codesync manifest (\d{1,9})\n", data)
    if found is None:
        return "this is no manifest"
    older = int(found[1]) < VERSION
    return (
        f"this manifest has version {int(found[1])}, and {VERSION} is read here; "
        f"update the codesync that {'wrote' if older else 'reads'} it"
    )


def _decompress(frame: memoryview, size: int) -> bytes:
    # a frame that tells its size gets that much memory at once
    if zstandard.get_frame_parameters(frame).content_size != size:
        raise ValueError(size)
    return zstandard.ZstdDecompressor(max_window_size=2**27).decompress(frame, allow_extra_data=False)


def split(body: bytes, *, check: bool = True) -> Packed:
    """Read what `join` wrote. ValueError, struct.error, ManifestError where it is anything else.

    `check=False` is for bytes of our own: only the lengths are compared.
    """
    count, *lengths = _COUNTS.unpack_from(body)
    if count > MAX_ENTRIES or sum(lengths, _COUNTS.size + (1 + 2 + 8 + 8 + DIGEST) * count) != len(body):
        raise ValueError(count)
    at = _COUNTS.size

    def take(length: int) -> bytes:
        nonlocal at
        at += length
        return body[at - length : at]

    kinds = take(count)
    modes, mtimes, sizes = (
        numbers(typecode, take(width * count)) for typecode, width in (("H", 2), ("q", 8), ("q", 8))
    )
    digests, paths, targets, left_out = (take(length) for length in (DIGEST * count, *lengths))
    # counted before anything is made of them: a few bytes of zstd may stand for millions of empty ones
    links = kinds.count(SYMLINK)
    if targets.count(b"\0") + bool(targets) != links or paths.count(b"\0") + bool(paths) != count:
        raise ValueError("columns of different lengths")
    if left_out.count(b"\0") >= 2 * MAX_SKIPPED:
        raise ValueError("too much that was left out")
    columns = Columns((), kinds, modes, mtimes, sizes, digests, _split(targets))
    if check:
        _check_numbers(columns)
    parts = _split(left_out)
    pairs = zip(parts[::2], map(_decode, parts[1::2]), strict=True)
    skipped = tuple(sorted(map(Skipped._make, pairs)))
    for skip in skipped:
        check_skipped(skip)
    return Packed(columns, paths, skipped)


def _check_numbers(columns: Columns) -> None:
    """Every field but the paths is within its range and fits its kind."""
    kinds, sizes, digests = columns.kinds, columns.sizes, columns.digests
    # the upper bytes alone tell whether a mode is above 0777, a size below 0
    if kinds.translate(None, b"fdl") or number_bytes(columns.modes)[1::2].translate(None, b"\0\1"):
        raise ValueError("kinds or modes")
    if number_bytes(sizes)[7::8].translate(None, bytes(range(128))):
        raise ValueError("sizes")
    if any(not 0 < len(target) <= MAX_PATH for target in columns.targets):
        raise ValueError("targets")
    for other in re.finditer(rb"[^f]+", kinds):
        start, stop = other.span()
        if any(sizes[start:stop]) or digests[DIGEST * start : DIGEST * stop].strip(b"\0"):
            raise ValueError("no file, and yet a size or a digest")


def complete(packed: Packed) -> Columns:
    """The columns with their paths. ManifestError unless those can be a tree's."""
    paths = _split(packed.paths)
    check_paths(packed.paths, paths, packed.columns.kinds.translate(_IS_DIRECTORY))
    return packed.columns._replace(paths=paths)


def _split(joined: bytes) -> tuple[bytes, ...]:
    return tuple(joined.split(b"\0")) if joined else ()


def number_bytes(column: array[int]) -> bytes:
    """A column of numbers, little-endian."""
    return _swapped(column).tobytes()


def numbers(typecode: str, data: bytes) -> array[int]:
    """The column that `number_bytes` wrote."""
    return _swapped(array(typecode, data))


def _swapped(column: array[int]) -> array[int]:
    """Little-endian from this machine's order, or the other way round."""
    if sys.byteorder == "big":
        column = column[:]
        column.byteswap()
    return column


def _encode(reason: str) -> bytes:
    return reason.encode("utf-8", "surrogateescape")


def _decode(reason: bytes) -> str:
    return reason.decode("utf-8", "surrogateescape")
