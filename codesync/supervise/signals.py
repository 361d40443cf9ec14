"""Signals as events of the loop.

The kernel may give a signal to any thread, and Python's own handlers run in the main thread only, once that wakes by
itself: one that waits in a queue would sleep on. So C writes the number into a pipe at once, and a thread waits there.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from codesync.supervise.loop import Loop


class Signals:
    """Handlers that run in the loop's consumer. To be made in the main thread, once at a time in a process."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._before: dict[int, Any] = {}
        self._source, self._sink = os.pipe()
        os.set_blocking(self._sink, False)
        # a full pipe holds thousands of signals that nobody has looked at yet: one more tells nothing new
        signal.set_wakeup_fd(self._sink, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def on(self, number: int, handle: Callable[[int], None]) -> None:
        """From now on that signal is the event `handle(number)`."""
        self._handlers[number] = handle
        self._before[number] = signal.signal(number, _notice)

    def close(self) -> None:
        """Give every signal its former handler back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(-1)
        os.close(self._sink)
        self._thread.join()

    def _read(self) -> None:
        while True:
            numbers = os.read(self._source, 4096)
            if not numbers:
                os.close(self._source)
                return
            for number in numbers:
                if number in self._handlers:
                    self._loop.post(self._handlers[number], number)


def _notice(number: int, frame: object) -> None:
    """What the pipe has told already."""
