"""The output of all runs, line by line: the newest of it is kept, and told to whoever follows.

One lock. Followers are called under it, so that they hear every line once and in order; they must only hand it on.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

MAX_LINES = 10_000
MAX_BYTES = 1 << 20
MAX_LINE = 65536  # bytes; what a line has beyond is dropped
_STREAMS = {1: "stdout", 2: "stderr"}
NOTES = "codesync"
# A process that goes on under another label never ends the line that it had begun under the former one.
_MAX_UNFINISHED = 8


class Line(NamedTuple):
    """`at` is in unix seconds; `stream` is stdout, stderr or codesync; bytes that are no UTF-8 are replaced in `text`."""

    at: float
    stream: str
    label: str
    text: str


class Recent(NamedTuple):
    """Lines, oldest first. `known`: there are lines of the run that was asked for; else these are of all runs."""

    lines: list[Line]
    known: bool


class _Raw(NamedTuple):
    """A line as it is kept: most are never read, so they are decoded for a reader only."""

    at: float
    stream: str
    label: str
    data: bytes

    def decoded(self) -> Line:
        text = self.data.decode("utf-8", "replace").rstrip("\r")
        return Line(self.at, self.stream, self.label, text)


class Log:
    """At most `max_lines` and `max_bytes`, whatever comes first. Safe to use from threads."""

    def __init__(
        self,
        max_lines: int = MAX_LINES,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.RLock()  # a follower may unfollow when it is called
        self._ring: deque[_Raw] = deque()
        self._size = 0
        self._unfinished: dict[tuple[int, str], bytes] = {}  # by stream and label; who waits longest is first
        self._followers: dict[int, Callable[[list[Line]], None]] = {}
        self._tokens = itertools.count(1)

    def add(self, stream: int, data: bytes, label: str = "") -> None:
        """Take what has just come from stream 1 or 2 of the run `label`; b"" ends a line that it has left unfinished."""
        with self._lock:
            start = self._unfinished.pop((stream, label), b"")
            ended = bool(start) and not data
            *lines, rest = (start + (b"\n" if ended else data)).split(b"\n")
            if rest:
                self._unfinished[stream, label] = rest[:MAX_LINE]
            self._keep(_STREAMS[stream], label, lines)
            if len(self._unfinished) > _MAX_UNFINISHED:
                waiting, its_label = next(iter(self._unfinished))
                self.add(waiting, b"", its_label)

    def note(self, text: str, label: str = "") -> None:
        """Take a word of ours."""
        with self._lock:
            self._keep(NOTES, label, text.encode("utf-8", "replace").splitlines())

    def _keep(self, stream: str, label: str, lines: list[bytes]) -> None:
        at = self._clock()
        new = [_Raw(at, stream, label, line[:MAX_LINE]) for line in lines]
        self._ring.extend(new)
        self._size += sum(len(line.data) for line in new)
        while len(self._ring) > self._max_lines or self._size > self._max_bytes:
            self._size -= len(self._ring.popleft().data)
        if new and self._followers:
            told = [line.decoded() for line in new]
            for follower in list(self._followers.values()):
                follower(told)

    def lines(self, count: int, since_label: str = "") -> Recent:
        """The newest `count` lines, from the first line of the run `since_label` on; unfinished ones last."""
        with self._lock:
            at = self._clock()
            unfinished = [
                _Raw(at, _STREAMS[stream], label, start)
                for (stream, label), start in self._unfinished.items()
            ]
            return _newest([*self._ring, *unfinished], count, since_label)

    def follow(self, callback: Callable[[list[Line]], None], count: int = 0, since_label: str = "") -> int:
        """Have `callback` called with all new lines, in batches, by the threads that add them; the token for `unfollow`.

        First of all, before this returns, it is called with the newest `count` lines, if there are any: what `lines` gives,
        without those that are unfinished. It must not wait.
        """
        with self._lock:
            recent = _newest(self._ring, count, since_label).lines
            if recent:
                callback(recent)
            token = next(self._tokens)
            self._followers[token] = callback
            return token

    def unfollow(self, token: int) -> None:
        """When this returns the callback is not called any more. Harmless when repeated."""
        with self._lock:
            self._followers.pop(token, None)


def _newest(kept: Collection[_Raw], count: int, since_label: str) -> Recent:
    places = (place for place, line in enumerate(kept) if line.label == since_label)
    first = next(places, None) if since_label else 0
    start = max(first or 0, len(kept) - count)
    return Recent([line.decoded() for line in itertools.islice(kept, start, None)], first is not None)
