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


class Tail:
    """The last lines of several streams, at most `max_lines` and `max_bytes` in all. Safe to use from threads."""

    def __init__(self, max_lines: int = MAX_LINES, max_bytes: int = MAX_BYTES) -> None:
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._unfinished: dict[int, bytes] = {}

    def add(self, stream: int, data: bytes) -> None:
        """Take what has just come from `stream`; a line counts from where its last byte came."""
        with self._lock:
            *lines, rest = data.rsplit(b"\n", self._max_lines + 1)
            if len(lines) <= self._max_lines:  # else the first one is all that is too old
                start = self._unfinished.get(stream, b"")
                if lines:
                    lines[0] = start + lines[0]
                else:
                    rest = start + rest
            self._unfinished[stream] = rest[-self._max_bytes :]
            for line in lines[-self._max_lines :]:
                self._append(line[-self._max_bytes :])

    def _append(self, line: bytes) -> None:
        self._lines.append(line)
        self._size += len(line)
        while len(self._lines) > self._max_lines or self._size > self._max_bytes:
            self._size -= len(self._lines.popleft())

    def lines(self) -> list[str]:
        """The lines, oldest first, unfinished ones last; bytes that are no UTF-8 replaced."""
        with self._lock:
            lines = [*self._lines, *(rest for rest in self._unfinished.values() if rest)]
        kept: deque[bytes] = deque()
        size = 0
        for line in reversed(lines[-self._max_lines :]):
            size += len(line)
            if size > self._max_bytes:
                break
            kept.appendleft(line)
        return [line.decode("utf-8", "replace").rstrip("\r") for line in kept]


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
