"""Which record may follow which, and what all of them together may ask for. No stream, no tree."""

from __future__ import annotations

from bisect import bisect_left

from codesync.delta.batch.format import (
    Change,
    Data,
    Delete,
    How,
    Limits,
    Move,
    Put,
    Record,
    Symlink,
    Track,
    Trailer,
    Untrack,
)
from codesync.delta.errors import BatchError, LimitExceeded
from codesync.delta.ops import Copy, Literal

_DELETES, _MOVES, _STANDS = 1, 2, 3
_PHASES: dict[type, int] = {Delete: _DELETES, Move: _MOVES, Untrack: 4, Track: 5}  # all else stands


class Places:
    """Where nothing may stand: what goes, and whatever is below it or below what is no directory."""

    def __init__(self) -> None:
        self._closed: set[bytes] = set()
        self._open = b""  # the last parent that was found to be fine

    def __contains__(self, path: bytes) -> bool:
        return path in self._closed

    def close(self, path: bytes) -> None:
        """Let nothing stand below `path`, and at `path` nothing that comes later."""
        self._closed.add(path)
        self._open = b""

    def check(self, path: bytes) -> None:
        """BatchError unless `path` and all above it are open."""
        if path in self._closed:
            raise BatchError("the batch both deletes and puts a path", path)
        self.check_above(path)

    def check_above(self, path: bytes) -> None:
        """BatchError unless all above `path` are open."""
        above = parent = path[: max(0, path.rfind(b"/"))]
        while parent and parent != self._open:
            if parent in self._closed:
                raise BatchError("the batch puts something below what is no directory", path)
            parent = parent[: max(0, parent.rfind(b"/"))]
        self._open = above


class Order:
    """Deletes from the last path to the first, then moves, what stands, untracked and tracked paths, in path order."""

    def __init__(self) -> None:
        self._phase = 0
        self._last = b""
        self._places = Places()
        self._moved: list[bytes] = []
        self._sources: set[bytes] = set()

    def check(self, record: Change) -> None:
        """BatchError unless `record` may come next."""
        path, phase = record.path, _PHASES.get(type(record), _STANDS)
        if phase == self._phase:
            in_order = path < self._last if phase == _DELETES else path > self._last
        else:
            in_order = phase > self._phase
        if not in_order:
            raise BatchError("the records of the batch are out of order or repeated", path)
        self._phase, self._last = phase, path
        if phase in (_MOVES, _STANDS):
            self._places.check(path)
        if isinstance(record, Move):
            self._check_source(record)
        elif isinstance(record, Put | Symlink):
            self._check_below(path)
        if phase == _DELETES or isinstance(record, Put | Symlink):
            self._places.close(path)

    def _check_source(self, move: Move) -> None:
        if move.source in self._places or move.source in self._sources:
            raise BatchError("the batch moves a path that it moves or deletes elsewhere", move.source)
        self._sources.add(move.source)
        self._moved.append(move.path)

    def _check_below(self, path: bytes) -> None:
        """What stands has its order; what moves came before."""
        at = bisect_left(self._moved, path + b"/")
        if at < len(self._moved) and self._moved[at].startswith(path + b"/"):
            raise BatchError("the batch puts something below what is no directory", self._moved[at])


class Sums:
    """What the batch has declared and delivered so far, against the limits and against each other."""

    def __init__(self, limits: Limits) -> None:
        self.literal_bytes = self.copied_bytes = 0
        self._limits = limits
        self._records = self._files = self._path_bytes = self._total_bytes = self._size = 0
        self._put: Put | None = None
        self._missing = 0  # bytes of that put's data

    def add(self, record: Record) -> None:
        """BatchError, LimitExceeded unless `record` fits what came before."""
        self._records += 1
        if isinstance(record, Data):
            self._take(record)
        else:
            self._check_whole()
            self._open(record)

    def _take(self, record: Data) -> None:
        made, sent = sizes(record)
        if self._put is None or made > self._missing:
            raise BatchError("the batch holds more data than it declares", self._put and self._put.path)
        if self._put.how == How.WHOLE and not isinstance(record, Literal):
            raise BatchError("a whole file copies from a basis", self._put.path)
        self._missing -= made
        self.literal_bytes += sent
        self.copied_bytes += max(0, made - sent)

    def _check_whole(self) -> None:
        if self._missing:
            assert self._put is not None
            raise BatchError(f"{self._missing} bytes of a file are missing in the batch", self._put.path)

    def _open(self, record: Change) -> None:
        self._put = record if isinstance(record, Put) else None
        self._missing = self._put.size if self._put else 0
        self._size += self._missing
        self.count(record.path, self._missing, getattr(record, "source", b""), getattr(record, "target", b""))

    def count(self, path: bytes, size: int = 0, *strings: bytes) -> None:
        """One more path that changes, of a file of `size` bytes; LimitExceeded."""
        limits, lengths = self._limits, [len(path), *map(len, strings)]
        if max(lengths) > limits.max_path:
            raise exceeded("max_path", limits.max_path, path)
        self._files += 1
        self._path_bytes += sum(lengths)
        self._total_bytes += size
        if self._files > limits.max_files:
            raise exceeded("max_files", limits.max_files, path)
        if self._path_bytes > limits.max_path_bytes:
            raise exceeded("max_path_bytes", limits.max_path_bytes, path)
        if self._total_bytes > limits.max_total_bytes:
            raise exceeded("max_total_bytes", limits.max_total_bytes, path)

    def trailer(self) -> Trailer:
        """The trailer of what was seen. BatchError where a file is not whole."""
        self._check_whole()
        return Trailer(self._records, self._size)


def sizes(data: Data) -> tuple[int, int]:
    """How many bytes of a file a piece of data makes, and how many are sent for them."""
    if isinstance(data, Copy):
        return data.length, 0
    return len(data.data) if isinstance(data, Literal) else data.size, len(data.data)


def exceeded(limit: str, value: int, path: bytes | None = None) -> LimitExceeded:
    """The error for one of the `Limits`."""
    return LimitExceeded(f"the batch exceeds {limit}, which is {value} here", limit, path)
