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

from codesync.client.results import ClientError
from codesync.client.zstd import MALFORMED, inflate
from codesync.delta import DeltaError, Manifest
from codesync.plan import ReplicaTree
from codesync.protocol import TreeRef

KEPT_TREES = 16
MAX_TREE = 256 * 1024 * 1024  # bytes, decompressed
MAX_TRACKED = 2_000_000


def decode_tree(data: bytes, ref: TreeRef) -> ReplicaTree:
    """Read a tree as replicas send it: zstd of msgpack {manifest, tracked}.

    Raises:
        ClientError: it is none, larger than 256 MiB, or not the one named.
    """
    try:
        tree = _read(inflate(data, MAX_TREE))
        ids = tree.ids
    except (*MALFORMED, DeltaError) as error:
        message = f"a replica's description of its tree cannot be read ({str(error) or type(error).__name__}); update the older of the two codesyncs"
        raise ClientError(message, code="bad_message") from error
    if ids != ref:
        raise ClientError(
            "a replica described another tree than it announced; push again", code="bad_message"
        )
    return tree


def _read(data: bytes) -> ReplicaTree:
    # only the two outer containers may be any: nested ones would take many times their size in memory
    unpacker = msgpack.Unpacker(max_buffer_size=MAX_TREE, max_array_len=0, max_map_len=0)
    unpacker.feed(data)
    manifest, tracked = b"", frozenset[bytes]()
    for _ in range(unpacker.read_map_header()):
        match unpacker.unpack():
            case "manifest":
                manifest = unpacker.unpack()
            case "tracked":
                tracked = _paths(unpacker)
            case _:
                unpacker.skip()
    return ReplicaTree(Manifest.from_bytes(manifest), tracked)


def _paths(unpacker: msgpack.Unpacker) -> frozenset[bytes]:
    count = unpacker.read_array_header()
    if count > MAX_TRACKED:
        raise ValueError(f"{count} tracked paths; the limit is {MAX_TRACKED}")
    paths = frozenset(unpacker.unpack() for _ in range(count))
    if not all(isinstance(path, bytes) for path in paths):
        raise TypeError("a tracked path is not bytes")
    return paths


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
        except (OSError, ClientError):
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
