"""The way to the twin that serves: wait for one, connect, try again for a while. Whoever serves meanwhile is the one that is found."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, NamedTuple

from codesync.launcher.relay.poll import WRITE

if TYPE_CHECKING:
    from collections.abc import Callable

    from codesync.launcher.relay.poll import Alarm, Poll
    from codesync.launcher.relay.twins import Twins

LOOPBACK = "127.0.0.1"
WAIT_SECONDS = 5.0  # while no twin serves, and for the answer to a connect
REFUSED_SECONDS = 1.0  # while the one that serves refuses
PAUSE_SECONDS = 0.02

_BUSY = (errno.EINPROGRESS, errno.EALREADY, errno.EAGAIN, errno.EINTR)


class Found(NamedTuple):
    """A connection to the twin at that port."""

    port: int
    connected: socket.socket


class Search:
    """`found(port, socket)` or `failed()` is called when it ends, unless `begin` finds at once, or it is stopped."""

    __slots__ = ("_alarm", "_failed", "_found", "_poll", "_port", "_socket", "_twins", "_until", "active")

    def __init__(
        self,
        poll: Poll,
        twins: Twins,
        found: Callable[[int, socket.socket], None],
        failed: Callable[[], None],
    ) -> None:
        self.active = False
        self._poll = poll
        self._twins = twins
        self._found = found
        self._failed = failed
        self._until = 0.0
        self._alarm: Alarm | None = None
        self._port: int | None = None
        self._socket: socket.socket | None = None  # connecting

    def begin(self) -> Found | None:
        """The port and a connected socket, if that takes no time. At most one search at a time."""
        self.active = True
        self._until = self._poll.now + WAIT_SECONDS
        return self._try()

    def retarget(self) -> None:
        """Another twin serves."""
        self._clear()
        self._go_on()

    def expel(self) -> None:
        """The same, since nothing has been sent yet."""
        self.retarget()

    def stop(self) -> None:
        """Call nobody."""
        self.active = False
        self._clear()

    def _clear(self) -> None:
        if self._alarm is not None:
            self._poll.cancel(self._alarm)
            self._alarm = None
        self._twins.wait_no_more(self)
        if self._socket is not None and self._port is not None:
            self._poll.watch(self._socket, WRITE, 0, self._answered)
            self._socket.close()
            self._socket = None
            self._twins.leave(self._port, self)

    def _go_on(self) -> None:
        found = self._try()
        if found is not None:
            self._found(*found)

    def _end(self) -> None:
        self.stop()
        self._failed()

    def _try(self) -> Found | None:
        port = self._twins.target
        if port is None:
            self._until = self._poll.now + WAIT_SECONDS
            self._twins.wait(self)
            self._alarm = self._poll.after(WAIT_SECONDS, self._end)
            return None
        try:
            made = _open()
        except OSError:  # no descriptors are left
            self._try_later()
            return None
        error = _connect(made, port)
        if not error:
            self.active = False
            return Found(port, made)
        if error in _BUSY:
            self._port, self._socket = port, made
            self._twins.join(port, self)
            self._poll.watch(made, 0, WRITE, self._answered)
            self._alarm = self._poll.after(self._until - self._poll.now, self._end)
        else:
            made.close()
            self._try_later()
        return None

    def _try_later(self) -> None:
        self._until = min(self._until, self._poll.now + REFUSED_SECONDS)
        again = self._poll.now < self._until
        self._alarm = self._poll.after(PAUSE_SECONDS, self._go_on if again else self._end)

    def _answered(self, events: int) -> None:
        """The connect has come to its end."""
        made, port = self._socket, self._port
        if made is None or port is None:
            return  # it was given up in this very turn
        self._socket = None
        self._poll.watch(made, WRITE, 0, self._answered)
        self._clear()
        if made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or _is_itself(made):
            made.close()
            self._try_later()
        else:
            self.active = False
            self._found(port, made)
        self._twins.leave(port, self)  # after whoever it was found for has joined: no drain ends in between


def _open() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setblocking(False)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def _connect(made: socket.socket, port: int) -> int:
    """0 or an errno."""
    error = made.connect_ex((LOOPBACK, port))
    if error == errno.EINPROGRESS:  # over loopback the answer has come by now
        error = made.connect_ex((LOOPBACK, port))
    return errno.ECONNREFUSED if not error and _is_itself(made) else error


def _is_itself(made: socket.socket) -> bool:
    """Nobody listens there, and the kernel has connected the socket to itself."""
    try:
        return bool(made.getsockname() == made.getpeername())
    except OSError:
        return False  # it has been reset since: reading will tell
