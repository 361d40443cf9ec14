"""Trees this machine knows by their ids: what replicas told, and what was pushed. A cache on disk, safe to delete.

A tree that is found here needs no question to the replica. Every one is checked against its ids when it is read.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

import msgpack
import zstandard

from codesync.delta import DeltaError, Manifest
from codesync.plan import ReplicaTree
from codesync.protocol import TreeRef

KEPT_TREES = 16
MAX_TREE = 256 * 1024 * 1024


def decode_tree(data: bytes, ref: TreeRef) -> ReplicaTree | None:
    """Read a tree as replicas send it: zstd of msgpack {manifest, tracked}. None when it is not the one named."""
    try:
        record = msgpack.unpackb(zstandard.ZstdDecompressor().decompress(data, max_output_size=MAX_TREE))
        tree = ReplicaTree(Manifest.from_bytes(record["manifest"]), frozenset(record["tracked"]))
    except (zstandard.ZstdError, ValueError, KeyError, TypeError, DeltaError):
        return None
    return tree if tree.ids == ref else None


def encode_tree(tree: ReplicaTree) -> bytes:
    """Write a tree as `decode_tree` reads it."""
    record = msgpack.packb({"manifest": tree.manifest.to_bytes(), "tracked": sorted(tree.tracked)})
    return zstandard.ZstdCompressor(level=1).compress(record)


class KnownTrees:
    """The trees below `directory`, the latest 16; the last one used also in memory."""

    _latest: ReplicaTree | None = None  # shared by the pushes of one process

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)

    def find(self, ref: TreeRef) -> ReplicaTree | None:
        """Return the tree with these ids, if it is known."""
        if KnownTrees._latest is not None and KnownTrees._latest.ids == ref:
            return KnownTrees._latest
        try:
            return decode_tree(self._path(ref).read_bytes(), ref)
        except OSError:
            return None

    def add(self, tree: ReplicaTree) -> None:
        """Remember a tree; a disk that refuses is no error."""
        KnownTrees._latest = tree
        with suppress(OSError):
            self._directory.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._directory, delete=False) as file:
                file.write(encode_tree(tree))
            os.replace(file.name, self._path(TreeRef(*tree.ids)))
            self._trim()

    def _path(self, ref: TreeRef) -> Path:
        return self._directory / f"{ref.tree_id}-{ref.tracked_id[:16]}"

    def _trim(self) -> None:
        by_age = sorted(self._directory.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in by_age[KEPT_TREES:]:
            path.unlink(missing_ok=True)
