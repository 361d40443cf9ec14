"""The records of a batch, and the bytes they travel as; `docs/batch-format.md` describes every field.

Each record is a msgpack array: its number, then its fields in the order of its class. `decode` lets nothing through
that is not exactly of the documented type and range. This file knows no stream: order and sums are the reader's.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from struct import Struct
from typing import Any, NamedTuple

import msgpack
from zstandard import FORMAT_ZSTD1_MAGICLESS

from codesync.delta.batch.tracked import STARTS
from codesync.delta.errors import BatchError
from codesync.delta.manifest.entry import MAX_DEPTH
from codesync.delta.ops import MAX_LITERAL, Copy, Literal, Window
from codesync.delta.window import MAX_DATA

MAGIC = b"csbatc\r\n"
VERSION = 2
HEAD = Struct("<8sH")
MAGICLESS = FORMAT_ZSTD1_MAGICLESS  # the batch has a magic of its own
CHECK = Struct("<Q")
MAX_PUSH_ID = 128
SHORT_ID = 8  # bytes of a tracked_id that travel: enough to find accidents


class Limits(NamedTuple):
    """What a reader accepts, in bytes unless said otherwise; more is `LimitExceeded`.

    `max_files` counts the paths a batch changes, moves or tracks; `max_path_bytes` sums up all paths and link targets;
    `max_total_bytes` sums up the sizes of all files; `max_window` bounds zstd's memory.
    """

    max_path: int = 64 * 1024
    max_files: int = 1_000_000
    max_path_bytes: int = 128 * 1024 * 1024
    max_total_bytes: int = 16 * 1024**3
    max_record: int = 1024 * 1024
    max_window: int = 8 * 1024 * 1024


class How(IntEnum):
    """What the data of a put is made against."""

    WHOLE = 0  # nothing
    DELTA = 1  # the file at the same path of the base
    MOVED = 2  # the file at another path of the base, `source`


class Header(NamedTuple):
    """From which tree to which, both as hex; what is said of tracked paths may be empty.

    `base_tracked` and `target_tracked` are the first 16 hex digits of a tracked_id.
    """

    base: str
    target: str
    push_id: str = ""
    tracked_start: str = ""
    base_tracked: str = ""
    target_tracked: str = ""
    version: int = VERSION

    def is_for(self, tree_id: str, tracked_id: str) -> bool:
        """Whether the batch is made against this tree and this set of tracked paths."""
        return self.base == tree_id and self.base_tracked == tracked_id[: 2 * SHORT_ID]


class Delete(NamedTuple):
    """The path of the base goes; a directory only if it is empty then."""

    path: bytes


class Move(NamedTuple):
    """What the base has at `source`, and below it if that is a directory, stands at `path`, and no longer at `source`.

    Except what is deleted, or below `source` has a move of its own; one to the same path keeps it where it is.
    """

    path: bytes
    source: bytes


class Directory(NamedTuple):
    """A directory that was none before."""

    path: bytes
    mode: int
    mtime_ns: int


class Symlink(NamedTuple):
    """A symlink, new or with another target."""

    path: bytes
    mtime_ns: int
    target: bytes


class Put(NamedTuple):
    """A file; `Literal`, `Copy` and `Window` records that make up `size` bytes follow at once."""

    path: bytes
    how: How
    mode: int
    mtime_ns: int
    size: int
    digest: bytes
    source: bytes = b""


class Attributes(NamedTuple):
    """Mode, mtime or both of a path whose content stays."""

    path: bytes
    mode: int | None
    mtime_ns: int | None


class Untrack(NamedTuple):
    """The path leaves the tracked set."""

    path: bytes


class Track(NamedTuple):
    """The path joins the tracked set."""

    path: bytes


class Trailer(NamedTuple):
    """How many records stand between header and trailer, and the sizes of all files put, summed up."""

    records: int
    size: int


Change = Delete | Move | Directory | Symlink | Put | Attributes | Untrack | Track
Data = Literal | Copy | Window
Record = Change | Data
_Check = Callable[[Any], Any]


def encode(record: Record | Header | Trailer) -> bytes:
    """The record's bytes."""
    fields = _header_fields(record) if isinstance(record, Header) else record
    data: bytes = msgpack.packb([_NUMBERS[type(record)], *fields])
    return data


def _header_fields(header: Header) -> list[Any]:
    tracked = [bytes.fromhex(text)[:SHORT_ID] for text in (header.base_tracked, header.target_tracked)]
    ids = map(bytes.fromhex, (header.base, header.target))
    return [*ids, header.push_id, STARTS.index(header.tracked_start), *tracked]


def decode(raw: object) -> Record | Header | Trailer:
    """The record that msgpack has unpacked; BatchError where a field is not what it must be."""
    if not isinstance(raw, tuple) or not raw or type(raw[0]) is not int or raw[0] not in _RECORDS:
        raise BatchError("the batch holds something that is no record")
    make, checks = _RECORDS[raw[0]]
    if len(raw) != len(checks) + 1:
        raise BatchError(
            f"a {make.__name__.lower()} record has {len(raw) - 1} fields instead of {len(checks)}"
        )
    record: Record | Header | Trailer = make(
        *(check(field) for check, field in zip(checks, raw[1:], strict=True))
    )
    if isinstance(record, Attributes) and record.mode is None and record.mtime_ns is None:
        raise _wrong("an attributes record that changes nothing")
    if isinstance(record, Put) and (record.how == How.MOVED) != bool(record.source):
        raise _wrong("a put whose source does not fit its kind")
    return record


def _wrong(what: str) -> BatchError:
    return BatchError(f"the batch holds {what}")


def _path(value: object) -> bytes:
    if type(value) is not bytes or not value or b"\0" in value:
        raise _wrong("a path that is none")
    if value.count(b"/") >= MAX_DEPTH:
        raise BatchError(f"the batch holds a path of more than {MAX_DEPTH} components", value)
    if any(part in (b"", b".", b"..") for part in value.split(b"/")):
        raise BatchError("the batch holds a path that may lead out of its tree", value)
    return value


def _source(value: object) -> bytes:
    return _path(value) if value != b"" else b""


def _link(value: object) -> bytes:
    if type(value) is not bytes or not value or b"\0" in value:
        raise _wrong("a link target that is none")
    return value


def _integer(low: int, high: int, what: str) -> _Check:
    def check(value: object) -> int:
        if type(value) is not int or not low <= value <= high:
            raise _wrong(f"{what} that cannot be")
        return value

    return check


def _binary(low: int, high: int, what: str) -> _Check:
    def check(value: object) -> bytes:
        if type(value) is not bytes or not low <= len(value) <= high:
            raise _wrong(f"{what} that cannot be")
        return value

    return check


def _optional(check: _Check) -> _Check:
    return lambda value: None if value is None else check(value)


def _how(value: object) -> How:
    if type(value) is not int or value not in How.__members__.values():
        raise _wrong("a kind of data that is not known here; a newer codesync is needed")
    return How(value)


def _push_id(value: object) -> str:
    if type(value) is not str or len(value) > MAX_PUSH_ID:
        raise _wrong("a push_id that cannot be")
    return value


def _start(value: object) -> str:
    if type(value) is not int or not 0 <= value < len(STARTS):
        raise _wrong("a start of the tracked set that is not known here; a newer codesync is needed")
    return STARTS[value]


def _hex(*lengths: int) -> _Check:
    def check(value: object) -> str:
        if type(value) is not bytes or len(value) not in lengths:
            raise _wrong("a tree id that is none")
        return value.hex()

    return check


_mode = _integer(0, 0o777, "a mode")
_time = _integer(-(2**63), 2**63 - 1, "a time")
_size = _integer(0, 2**63 - 1, "a size")
_length = _integer(1, 2**63 - 1, "a length")
_digest = _binary(32, 32, "a digest")
_data = _binary(1, MAX_LITERAL, "a piece of data")
_packed = _binary(1, MAX_DATA, "a window's data")

_RECORDS: dict[int, tuple[Callable[..., Any], tuple[_Check, ...]]] = {
    0: (Header, (_hex(32), _hex(32), _push_id, _start, _hex(0, SHORT_ID), _hex(0, SHORT_ID))),
    1: (Delete, (_path,)),
    2: (Directory, (_path, _mode, _time)),
    3: (Symlink, (_path, _time, _link)),
    4: (Put, (_path, _how, _mode, _time, _size, _digest, _source)),
    5: (Literal, (_data,)),
    6: (Copy, (_size, _length)),
    7: (Attributes, (_path, _optional(_mode), _optional(_time))),
    8: (Untrack, (_path,)),
    9: (Track, (_path,)),
    10: (Trailer, (_size, _size)),
    11: (Window, (_length, _packed)),
    12: (Move, (_path, _path)),
}
_NUMBERS: dict[object, int] = {make: number for number, (make, _) in _RECORDS.items()}
