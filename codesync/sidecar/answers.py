"""What a replica tells a client that asks: its tree's manifest, signatures of files and details of them, its history.

The data of an answer is cut into chunks; what may be large is one zstd frame. docs/protocol.md has the fields.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from typing import BinaryIO

import msgpack
import zstandard

from codesync.delta import Kind, signature
from codesync.delta.refine import Range, coarse_block_size, details
from codesync.delta.refine.details import SUM_BYTES, piece_size
from codesync.protocol import (
    MAX_CHUNK,
    Answer,
    AnswerError,
    FileRanges,
    GetDetails,
    GetHistory,
    GetManifest,
    GetSignatures,
    Message,
    wire_name,
)
from codesync.sidecar.reports import told_pushes
from codesync.sidecar.store import Store
from codesync.transaction import Root, TransactionError

LATER_QUESTIONS = (wire_name(GetDetails),)  # those that not every replica of this protocol's version answers
MAX_DETAILS = (
    8 * 1024 * 1024
)  # bytes of checksums for the ranges of one file; where it would be more there are none
MAX_TIMES = 2  # so often may the ranges of a file cover it


async def manifest_answer(asked: GetManifest, store: Store) -> AsyncGenerator[Message, None]:
    """The committed tree: msgpack {"manifest": bytes, "tracked": [paths]}."""
    if asked.tree != store.tree:
        yield AnswerError(
            request=asked.request,
            code="stale",
            message=f"tree {asked.tree.tree_id[:12]} is not the committed one here",
        )
        return
    record = msgpack.packb(
        {"manifest": store.manifest.to_bytes(), "tracked": sorted(store.committed.tracked)}
    )
    data = await asyncio.to_thread(zstandard.ZstdCompressor().compress, record)
    for answer in _pieces(asked.request, data):
        yield answer


async def history_answer(asked: GetHistory, store: Store) -> AsyncGenerator[Message, None]:
    """What is remembered of pushes, kept or not, as JSON: an array of objects, oldest first."""
    data = json.dumps(told_pushes(store.state), ensure_ascii=False).encode("utf-8", "replace")
    for answer in _pieces(asked.request, data):
        yield answer


def _pieces(request: int, data: bytes) -> Iterator[Answer]:
    """All of an answer that is not empty."""
    for start in range(0, len(data), MAX_CHUNK):
        piece = data[start : start + MAX_CHUNK]
        yield Answer(request=request, data=piece, last=start + MAX_CHUNK >= len(data))


async def signatures_answer(asked: GetSignatures, store: Store) -> AsyncGenerator[Message, None]:
    """One msgpack [path, signature] after another; a path that is no file of the tree is left out."""
    async for message in _told(asked, store, _signatures(asked, store)):
        yield message


async def details_answer(asked: GetDetails, store: Store) -> AsyncGenerator[Message, None]:
    """One msgpack [path, details] after another; left out is what is no file of the tree, or would be too much."""
    async for message in _told(asked, store, _details(asked, store)):
        yield message


async def _told(
    asked: GetSignatures | GetDetails, store: Store, records: Iterator[bytes]
) -> AsyncGenerator[Message, None]:
    """Records as one zstd frame, as they are made."""
    if asked.tree_id != store.tree.tree_id:
        yield AnswerError(
            request=asked.request,
            code="stale",
            message=f"tree {asked.tree_id[:12]} is not the committed one here",
        )
        return
    compressor = zstandard.ZstdCompressor().compressobj()
    pending = b""
    while (record := await asyncio.to_thread(next, records, None)) is not None:
        pending += compressor.compress(record)
        while len(pending) > MAX_CHUNK:
            yield Answer(request=asked.request, data=pending[:MAX_CHUNK], last=False)
            pending = pending[MAX_CHUNK:]
    pending += compressor.flush()
    for answer in _pieces(asked.request, pending):
        yield answer


def _signatures(asked: GetSignatures, store: Store) -> Iterator[bytes]:
    def make(file: BinaryIO, path: bytes, size: int) -> bytes:
        coarse = 0 < asked.coarse_from <= size
        # a false match is not made again by the next push: that gets another seed
        made = signature(file, coarse_block_size(size) if coarse else None, seed=secrets.randbits(32))
        return made.to_bytes()

    return _records(asked.paths, store, make)


def _details(asked: GetDetails, store: Store) -> Iterator[bytes]:
    wanted = {file.path: file for file in asked.files}

    def make(file: BinaryIO, path: bytes, size: int) -> bytes | None:
        ranges = _ranges(wanted[path], size)
        return details(file, ranges, seed=wanted[path].seed).to_bytes() if ranges else None

    return _records(wanted, store, make)


def _records(
    paths: Iterable[bytes], store: Store, make: Callable[[BinaryIO, bytes, int], bytes | None]
) -> Iterator[bytes]:
    """A record for each of these files of the committed tree; the client does without those that are left out."""
    with Root(os.fsencode(store.volume.current)) as root:
        for path in paths:
            entry = store.manifest.get(path)
            if entry is None or entry.kind != Kind.FILE:
                continue
            try:
                with root.open(path) as file:
                    made = make(file, path, os.fstat(file.fileno()).st_size)
            except (OSError, TransactionError):
                continue
            if made is not None:
                yield bytes(msgpack.packb([path, made]))


def _ranges(wanted: FileRanges, size: int) -> list[Range]:
    """The ranges of a file of `size` bytes; none where they cannot be, or are too much to tell of."""
    ranges = [Range(*pair) for pair in _pairs(wanted.ranges)]
    asked = [*ranges, *(Range(*pair, orphan=True) for pair in _pairs(wanted.orphans))]
    told = sum(SUM_BYTES * (found.length // piece_size(found.length)) for found in ranges)
    if told > MAX_DETAILS or sum(found.length for found in asked) > MAX_TIMES * size:
        return []
    return asked if all(found.offset + found.length <= size for found in asked) else []


def _pairs(numbers: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    return zip(numbers[::2], numbers[1::2], strict=True)
