"""What is in a batch, told without a tree: for `codesync batch inspect` and for tests."""

from __future__ import annotations

from typing import NamedTuple

from codesync.delta.batch.format import Change, Data, Header, How, Limits, Move, Put
from codesync.delta.batch.order import sizes
from codesync.delta.batch.read import read_batch
from codesync.delta.reading import Readable


class PathInfo(NamedTuple):
    """One change. `what`: "put" (whole), "delta", "copy" (of, or a delta against, the base's `source`), "move" (of
    `source` and all below it), "directory", "symlink", "attributes", "delete", "track", "untrack".

    `size` of a file put; `literal_bytes` sent for it, `copied_bytes` that the base spares.
    """

    path: bytes
    what: str
    size: int = 0
    literal_bytes: int = 0
    copied_bytes: int = 0
    source: bytes = b""


_PUTS = {How.WHOLE: "put", How.DELTA: "delta", How.MOVED: "copy"}


class BatchInfo(NamedTuple):
    """A batch's header, how many changes of each kind, sums in bytes, and every change in order."""

    header: Header
    counts: dict[str, int]
    literal_bytes: int
    copied_bytes: int
    wire_bytes: int
    paths: tuple[PathInfo, ...]


def inspect_batch(file: Readable, limits: Limits | None = None) -> BatchInfo:
    """Read a whole batch, verify all that can be verified without its base, and say what it holds. BatchError."""
    reader = read_batch(file, limits)
    paths: list[PathInfo] = []
    for record in reader:
        if isinstance(record, Data):
            last = paths[-1]
            made, sent = sizes(record)
            copied = last.copied_bytes + max(0, made - sent)
            paths[-1] = last._replace(literal_bytes=last.literal_bytes + sent, copied_bytes=copied)
        else:
            paths.append(_info(record))
    counts: dict[str, int] = {}
    for info in paths:
        counts[info.what] = counts.get(info.what, 0) + 1
    return BatchInfo(
        reader.header, counts, reader.literal_bytes, reader.copied_bytes, reader.wire_bytes, tuple(paths)
    )


def _info(record: Change) -> PathInfo:
    if isinstance(record, Put):
        return PathInfo(record.path, _PUTS[record.how], record.size, source=record.source)
    source = record.source if isinstance(record, Move) else b""
    return PathInfo(record.path, type(record).__name__.lower(), source=source)
