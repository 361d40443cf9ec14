"""What a replica tells a client that asks: its tree's manifest, signatures of files, its history.

The data of an answer is cut into chunks; what may be large is one zstd frame. docs/protocol.md has the fields.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Iterator

import msgpack
import zstandard

from codesync.delta import Kind, signature
from codesync.protocol import (
    MAX_CHUNK,
    Answer,
    AnswerError,
    GetHistory,
    GetManifest,
    GetSignatures,
    Message,
)
from codesync.sidecar.reports import told_pushes
from codesync.sidecar.store import Store
from codesync.transaction import Root, TransactionError


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
    if asked.tree_id != store.tree.tree_id:
        yield AnswerError(
            request=asked.request,
            code="stale",
            message=f"tree {asked.tree_id[:12]} is not the committed one here",
        )
        return
    compressor = zstandard.ZstdCompressor().compressobj()
    pending = b""
    records = _signatures(asked.paths, store)
    while (record := await asyncio.to_thread(next, records, None)) is not None:
        pending += compressor.compress(record)
        while len(pending) > MAX_CHUNK:
            yield Answer(request=asked.request, data=pending[:MAX_CHUNK], last=False)
            pending = pending[MAX_CHUNK:]
    pending += compressor.flush()
    for answer in _pieces(asked.request, pending):
        yield answer


def _signatures(paths: tuple[bytes, ...], store: Store) -> Iterator[bytes]:
    with Root(os.fsencode(store.volume.current)) as root:
        for path in paths:
            entry = store.manifest.get(path)
            if entry is None or entry.kind != Kind.FILE:
                continue
            try:
                with root.open(path) as file:
                    yield bytes(msgpack.packb([path, signature(file).to_bytes()]))
            except (OSError, TransactionError):
                continue  # the client then sends that file whole
