"""How a manifest is written down: packed bytes for the wire, JSON for the volume. Both are versioned and checked.

Packed: MAGIC, SHA-256 of all that follows it, length of the columns (8 bytes, big-endian), the columns as one zstd
frame. Columns: a msgpack array of kinds (one letter each), modes, mtimes, sizes, digests (of the files, one after the
other), targets (of the links), paths (joined by NUL), skipped (path and reason by turns). This file checks shapes;
whether the entries can be a tree is `Manifest.of`'s business. Nothing is decompressed beyond the size it declares, nor
before that is known to be within the limit.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

import msgpack
import zstandard

from codesync.delta.errors import ManifestError
from codesync.delta.manifest.entry import Entry, Kind, Skipped

MAGIC = b"codesync manifest 1\n"
JSON_VERSION = 1
MAX_COLUMNS = 64 * 1024 * 1024  # bytes, decompressed
MAX_ENTRIES = 1_000_000
_KINDS = {kind.value: kind for kind in Kind}
# what reading a field of a wrong shape raises, here or in the two libraries
_MALFORMED = (ValueError, TypeError, LookupError, AttributeError, StopIteration, zstandard.ZstdError)
_Parts = tuple[list[Entry], list[Skipped]]


def pack(entries: Sequence[Entry], skipped: Sequence[Skipped]) -> bytes:
    """Write down entries that are in path order; ManifestError where `unpack` would refuse them as too many."""
    columns = msgpack.packb(
        [
            "".join(entry.kind for entry in entries),
            [entry.mode for entry in entries],
            [entry.mtime_ns for entry in entries],
            [entry.size for entry in entries if entry.kind is Kind.FILE],
            b"".join(entry.digest for entry in entries),
            [entry.target for entry in entries if entry.kind is Kind.SYMLINK],
            b"\0".join(entry.path for entry in entries),
            [part for skip in skipped for part in skip],
        ]
    )
    if len(entries) > MAX_ENTRIES or len(columns) > MAX_COLUMNS:
        raise ManifestError(
            f"{len(entries)} paths are more than a manifest may hold; ignore what is not code"
        )
    body = len(columns).to_bytes(8, "big") + zstandard.ZstdCompressor(level=3).compress(columns)
    return MAGIC + hashlib.sha256(body).digest() + body


def unpack(data: bytes) -> _Parts:
    """Read what `pack` wrote; ManifestError where it is anything else."""
    start = len(MAGIC)
    if data[:start] != MAGIC:
        raise ManifestError("this is not a manifest of a version that this codesync reads")
    digest, body = data[start : start + 32], data[start + 32 :]
    if hashlib.sha256(body).digest() != digest:
        raise ManifestError("the manifest is damaged or cut short")
    size = int.from_bytes(body[:8], "big")
    if size > MAX_COLUMNS:
        raise ManifestError(f"the manifest wants {size} bytes; the limit is {MAX_COLUMNS}")
    try:
        columns = _decompress(body[8:], size)
        return _parts(msgpack.unpackb(columns, max_array_len=MAX_ENTRIES))
    except _MALFORMED as error:
        raise ManifestError(f"the manifest contradicts itself ({type(error).__name__})") from error


def _decompress(frame: bytes, size: int) -> bytes:
    with zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(frame) as reader:
        columns = reader.read(size + 1)
    if len(columns) != size:
        raise ValueError(size)
    return columns


def _parts(columns: list[Any]) -> _Parts:
    kinds, modes, mtimes, sizes, digests, targets, paths, skipped = columns
    if len(digests) != 32 * len(sizes) or len(kinds) != (paths.count(b"\0") + 1 if paths else 0):
        raise ValueError("columns of different lengths")
    size, target = iter(sizes), iter(targets)
    digest = iter([digests[at : at + 32] for at in range(0, len(digests), 32)])
    entries = []
    for path, letter, mode, mtime in zip(
        paths.split(b"\0") if paths else (), kinds, modes, mtimes, strict=True
    ):
        kind = _KINDS[letter]
        if kind is Kind.FILE:
            entries.append(Entry(path, kind, mode, mtime, next(size), next(digest)))
        else:
            entries.append(
                Entry(path, kind, mode, mtime, 0, b"", next(target) if kind is Kind.SYMLINK else b"")
            )
    if next(size, None) is not None or next(target, None) is not None:
        raise ValueError("more sizes or targets than entries")
    return entries, [Skipped(*pair) for pair in zip(skipped[::2], skipped[1::2], strict=True)]


def to_json(entries: Sequence[Entry], skipped: Sequence[Skipped], tree_id: str) -> dict[str, Any]:
    """Shape: {"version", "tree_id", "entries": [[path, kind, mode, mtime_ns, size, digest | target | ""]], "skipped"}."""
    return {
        "version": JSON_VERSION,
        "tree_id": tree_id,
        "entries": [
            [
                _text(e.path),
                e.kind.value,
                e.mode,
                e.mtime_ns,
                e.size,
                _text(e.target) if e.target else e.digest.hex(),
            ]
            for e in entries
        ],
        "skipped": [[_text(skip.path), skip.reason] for skip in skipped],
    }


def from_json(obj: object) -> tuple[list[Entry], list[Skipped], str]:
    """Read what `to_json` made, "skipped" may be absent; ManifestError where it is anything else."""
    if not isinstance(obj, dict) or obj.get("version") != JSON_VERSION:
        raise ManifestError("this is not a JSON manifest of a version that this codesync reads")
    try:
        entries = [entry_from_json(row) for row in obj["entries"]]
        skipped = [Skipped(_bytes(path), reason) for path, reason in obj.get("skipped", [])]
        return entries, skipped, str(obj["tree_id"])
    except _MALFORMED as error:
        raise ManifestError(f"the JSON manifest is malformed ({type(error).__name__})") from error


def entry_from_json(row: list[Any]) -> Entry:
    """Read one row of `to_json`. ValueError, TypeError, KeyError where it is none."""
    path, letter, mode, mtime_ns, size, last = row
    kind = _KINDS[letter]
    digest, target = (b"", _bytes(last)) if kind is Kind.SYMLINK else (bytes.fromhex(last), b"")
    return Entry(_bytes(path), kind, mode, mtime_ns, size, digest, target)


def _text(path: bytes) -> str:
    return base64.b64encode(path).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
