"""One connected socket of the two that a connection has; it never blocks."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from codesync.launcher.relay.poll import Poll

PIECE = 64 * 1024  # bytes that are read at once

_AT_ONCE = struct.pack("ii", 1, 0)  # for SO_LINGER: closing is a reset


class Side:
    """`ready(events)` is called for what is watched, `events` among it. Takes the socket over."""

    __slots__ = ("_is_shut", "_poll", "_ready", "_socket", "events")

    def __init__(self, connected: socket.socket, poll: Poll, ready: Callable[[int], None]) -> None:
        self.events = 0
        self._socket = connected
        self._poll = poll
        self._ready = ready
        self._is_shut = False

    def watch(self, events: int) -> None:
        """Wait for these, READ and WRITE, and for nothing else."""
        if events != self.events:
            self._poll.watch(self._socket, self.events, events, self._ready)
            self.events = events

    def read(self) -> bytes | None:
        """What has come, None when nothing has, b"" at the end. Raises OSError."""
        try:
            return self._socket.recv(PIECE)
        except BlockingIOError:
            return None

    def send(self, data: bytes) -> bytes:
        """What is left of it. Raises OSError."""
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            return data
        return data[sent:]

    def shut(self) -> None:
        """Say that no more will come. Raises OSError."""
        if not self._is_shut:
            self._is_shut = True
            self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close in a way that cannot be taken for an end."""
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.close()

    def close(self) -> None:
        """Once; what has been sent still arrives."""
        self.watch(0)
        self._socket.close()
