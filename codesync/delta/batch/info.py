"""What is in a batch, told without a tree: for `codesync batch inspect` and for tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from codesync.delta.batch.format import Change, Header, How, Limits, Put
from codesync.delta.batch.read import read_batch
from codesync.delta.ops import Copy, Literal
from codesync.delta.reading import Readable


class PathInfo(NamedTuple):
    """One change: `what` is "put", "delta", "move", "directory", "symlink", "attributes", "delete", "track", "untrack".

    `size` of the file afterwards, `literal_bytes` of it sent, `copied_bytes` of it from the base; `source`: of a move.
    """

    path: bytes
    what: str
    size: int = 0
    literal_bytes: int = 0
    copied_bytes: int = 0
    source: bytes = b""


_PUTS = {How.WHOLE: "put", How.DELTA: "delta", How.MOVED: "move"}


@dataclass(frozen=True, slots=True)
class BatchInfo:
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
        if isinstance(record, Literal):
            paths[-1] = paths[-1]._replace(literal_bytes=paths[-1].literal_bytes + len(record.data))
        elif isinstance(record, Copy):
            paths[-1] = paths[-1]._replace(copied_bytes=paths[-1].copied_bytes + record.length)
        else:
            paths.append(_info(record))
    counts: dict[str, int] = {}
    for info in paths:
        counts[info.what] = counts.get(info.what, 0) + 1
    trailer = reader.trailer
    assert trailer is not None
    return BatchInfo(
        reader.header, counts, trailer.literal_bytes, trailer.copied_bytes, reader.wire_bytes, tuple(paths)
    )


def _info(record: Change) -> PathInfo:
    if isinstance(record, Put):
        return PathInfo(record.path, _PUTS[record.how], record.size, source=record.source)
    return PathInfo(record.path, type(record).__name__.lower())
