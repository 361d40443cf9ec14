"""Trees this machine knows by their ids: what replicas told, and what was pushed. A cache on disk, safe to delete.

A tree that is found here needs no question to the replica. Every one is checked against its ids when it is read. The
last few stay in memory too, for the next push of the same process.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock, Thread
from typing import Generic, TypeVar

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
WRITER = "write a known tree"  # name of the threads that do
RECENT = 4
RECENT_ENTRIES = 250_000  # together, a few hundred bytes each

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """The values used last, by key: at most 4, and fewer while they have more than 250,000 entries. For threads."""

    def __init__(self, entries: Callable[[V], int]) -> None:
        self._entries = entries  # how many a value has
        self._values: dict[K, V] = {}  # the oldest first
        self._lock = Lock()

    def find(self, key: K) -> V | None:
        """Return a value, which is the latest then."""
        with self._lock:
            value = self._values.pop(key, None)
            if value is not None:
                self._put(key, value)
            return value

    def get(self, key: K, make: Callable[[], V]) -> V:
        """Return the value of that key, a new one if there is none."""
        with self._lock:
            value = self._values.pop(key, None)
            value = make() if value is None else value
            self._put(key, value)
            return value

    def put(self, key: K, value: V) -> None:
        """Keep a value as the latest one."""
        with self._lock:
            self._values.pop(key, None)
            self._put(key, value)

    def _put(self, key: K, value: V) -> None:
        self._values[key] = value
        while len(self._values) > 1 and (
            len(self._values) > RECENT or sum(map(self._entries, self._values.values())) > RECENT_ENTRIES
        ):
            del self._values[next(iter(self._values))]


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
    """The trees below `directory`, the latest 16; the last few used also in memory."""

    # shared by the pushes of one process
    _recent: Recent[tuple[str, str], ReplicaTree] = Recent(lambda tree: len(tree.manifest))

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)

    def find(self, ref: TreeRef) -> ReplicaTree | None:
        """Return the tree with these ids, if it is known."""
        tree = KnownTrees._recent.find(ref)
        if tree is None:
            try:
                tree = decode_tree(self._path(ref).read_bytes(), ref)
            except (OSError, ClientError):
                return None
            KnownTrees._recent.put(tree.ids, tree)
        return tree

    def add(self, tree: ReplicaTree) -> None:
        """Remember a tree; it is written beside what the caller does next. A disk that refuses is no error."""
        KnownTrees._recent.put(tree.ids, tree)
        # no daemon: a process that ends waits for it
        Thread(target=self._write, args=(tree,), name=WRITER).start()

    def _write(self, tree: ReplicaTree) -> None:
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
