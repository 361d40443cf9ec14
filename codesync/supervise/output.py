"""An application's output: passed on byte for byte as it comes, its end kept for whoever must judge it.

One thread per stream. A sink that fails is given up, the source is read on: an application must not hang because nobody
listens to it.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK = 65536
MAX_LINES = 200
MAX_BYTES = 65536


class _Stream:
    """One stream's part of a tail: its lines, each with its place among all."""

    def __init__(self) -> None:
        self.lines: deque[tuple[int, bytes]] = deque()
        self.size = 0
        self.unfinished = b""


class Tail:
    """The last lines of several streams, at most `max_lines` and `max_bytes` in all. Safe to use from threads.

    Whichever stream has most gives way first: a flood of one must not wash away the few lines of the other that matter.
    """

    def __init__(self, max_lines: int = MAX_LINES, max_bytes: int = MAX_BYTES) -> None:
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._count = 0
        self._streams: dict[int, _Stream] = {}

    def add(self, stream: int, data: bytes) -> None:
        """Take what has just come from `stream`; a line has its place where its end came."""
        with self._lock:
            part = self._streams.setdefault(stream, _Stream())
            *lines, rest = data.rsplit(b"\n", self._max_lines + 1)
            if len(lines) <= self._max_lines:  # else the first one is all that is too old
                start = part.unfinished
                if lines:
                    lines[0] = start + lines[0]
                else:
                    rest = start + rest
            part.unfinished = rest[-self._max_bytes :]
            for line in lines[-self._max_lines :]:
                self._append(part, line[-self._max_bytes :])

    def _append(self, part: _Stream, line: bytes) -> None:
        self._count += 1
        part.lines.append((self._count, line))
        part.size += len(line)
        while sum(len(other.lines) for other in self._streams.values()) > self._max_lines:
            _shorten(max(self._streams.values(), key=lambda other: len(other.lines)))
        while sum(other.size for other in self._streams.values()) > self._max_bytes:
            _shorten(max(self._streams.values(), key=lambda other: other.size))

    def lines(self) -> list[str]:
        """The lines, oldest first, unfinished ones last; bytes that are no UTF-8 replaced."""
        with self._lock:
            lines = [line for part in self._streams.values() for line in part.lines]
            unfinished = [part.unfinished for part in self._streams.values() if part.unfinished]
        kept = self._within_bounds([line for _, line in sorted(lines)] + unfinished)
        return [line.decode("utf-8", "replace").rstrip("\r") for line in kept]

    def _within_bounds(self, lines: list[bytes]) -> list[bytes]:
        size = 0
        for back, line in enumerate(reversed(lines)):
            size += len(line)
            if size > self._max_bytes or back == self._max_lines:
                return lines[len(lines) - back :]
        return lines


def _shorten(part: _Stream) -> None:
    _, line = part.lines.popleft()
    part.size -= len(line)


def pump(
    source: int, sink: int, keep: Callable[[bytes], None], ended: Callable[[], None]
) -> threading.Thread:
    """Start a thread that passes `source` (closed at its end) to `sink`; `keep` sees every chunk before the sink does."""
    thread = threading.Thread(target=_pump, args=(source, sink, keep, ended), daemon=True)
    thread.start()
    return thread


def _pump(source: int, sink: int, keep: Callable[[bytes], None], ended: Callable[[], None]) -> None:
    listening = True
    try:
        while True:
            data = os.read(source, CHUNK)
            if not data:
                return
            keep(data)
            listening = listening and _write(sink, data)
    finally:
        os.close(source)
        ended()


def _write(sink: int, data: bytes) -> bool:
    """Write all of it; False when the sink is broken for good."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(sink, view) :]
        except BlockingIOError:  # somebody gave us a non-blocking stdout
            select.select([], [sink], [])
        except OSError:
            return False
    return True
