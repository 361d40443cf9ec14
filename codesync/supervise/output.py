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
    from collections.abc import Callable, Iterable

CHUNK = 65536
MAX_LINES = 200
MAX_BYTES = 65536


class _Lines:
    """Lines of one stream, each with its place among those of all."""

    def __init__(self, lines: Iterable[tuple[int, bytes]] = ()) -> None:
        self.lines = deque(lines)
        self.size = sum(len(line) for _, line in self.lines)
        self.unfinished = b""

    def append(self, place: int, line: bytes) -> None:
        self.lines.append((place, line))
        self.size += len(line)

    def shorten(self) -> None:
        _, line = self.lines.popleft()
        self.size -= len(line)


class Tail:
    """The last lines of several streams, at most `max_lines` and `max_bytes` in all. Safe to use from threads.

    Whichever stream has most gives way first: a flood of one must not wash away the few lines of the other that matter.
    """

    def __init__(self, max_lines: int = MAX_LINES, max_bytes: int = MAX_BYTES) -> None:
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._count = 0
        self._streams: dict[int, _Lines] = {}

    def add(self, stream: int, data: bytes) -> None:
        """Take what has just come from `stream`; a line has its place where its end came."""
        with self._lock:
            part = self._streams.setdefault(stream, _Lines())
            *lines, rest = data.rsplit(b"\n", self._max_lines + 1)
            if len(lines) <= self._max_lines:  # else the first one is all that is too old
                start = part.unfinished
                if lines:
                    lines[0] = start + lines[0]
                else:
                    rest = start + rest
            part.unfinished = rest[-self._max_bytes // 4 :]
            for line in lines[-self._max_lines :]:
                self._count += 1
                part.append(self._count, line[-self._max_bytes :])
            self._bound([part])

    def _bound(self, parts: list[_Lines]) -> None:
        while sum(len(part.lines) for part in parts) > self._max_lines:
            max(parts, key=lambda part: len(part.lines)).shorten()
        while sum(part.size for part in parts) > self._max_bytes:
            max(parts, key=lambda part: part.size).shorten()

    def lines(self) -> list[str]:
        """The lines, oldest first, unfinished ones last; bytes that are no UTF-8 replaced."""
        parts = []
        with self._lock:
            for place, part in enumerate(self._streams.values(), self._count + 1):
                parts.append(_Lines(part.lines))
                if part.unfinished:
                    parts[-1].append(place, part.unfinished)
        self._bound(parts)
        merged = sorted(line for part in parts for line in part.lines)
        return [line.decode("utf-8", "replace").rstrip("\r") for _, line in merged]


def pump(source: int, sink: int, heard: Callable[[bytes], None]) -> threading.Thread:
    """Start a thread that passes `source` (closed at its end) to `sink`.

    `heard` is called with every chunk before the sink gets it, and with an empty one at the end.
    """
    thread = threading.Thread(target=_pump, args=(source, sink, heard), daemon=True)
    thread.start()
    return thread


def _pump(source: int, sink: int, heard: Callable[[bytes], None]) -> None:
    listening = True
    try:
        while True:
            data = os.read(source, CHUNK)
            if not data:
                return
            heard(data)
            listening = listening and _write(sink, data)
    finally:
        os.close(source)
        heard(b"")


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
