"""Which twin serves, who uses which, who waits for one, and which are being drained. Only connections own sockets."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from codesync.launcher.relay.poll import Alarm, Poll


class User(Protocol):
    """A connection, as seen from here."""

    def retarget(self) -> None:
        """Another twin serves: go there as soon as that is possible."""

    def expel(self) -> None:
        """Leave the twin, whatever you are doing."""


class _Drain(NamedTuple):
    drained: Callable[[], None]
    bound: Alarm


class Twins:
    """`target` is the port of the twin that serves, None while nobody does."""

    def __init__(self, poll: Poll) -> None:
        self.target: int | None = None
        self._poll = poll
        self._users: dict[int, set[User]] = {}
        self._waiting: set[User] = set()
        self._drains: dict[int, _Drain] = {}

    def join(self, port: int, user: User) -> None:
        """It uses the twin from now on."""
        self._users.setdefault(port, set()).add(user)

    def leave(self, port: int, user: User) -> None:
        """It does not any more."""
        users = self._users[port]
        users.discard(user)
        if not users:
            del self._users[port]
            self._end_drain(port)

    def wait(self, user: User) -> None:
        """Have it told when a twin serves."""
        self._waiting.add(user)

    def wait_no_more(self, user: User) -> None:
        """It has lost patience, or its client has."""
        self._waiting.discard(user)

    def point(self, port: int | None) -> None:
        """That one serves now; if it was being drained, it is not any more."""
        if port is not None and port in self._drains:
            self._poll.cancel(self._drains.pop(port).bound)
        self.target = port
        movers = [user for other, users in self._users.items() if other != port for user in users]
        if port is not None:
            movers += self._waiting
            self._waiting.clear()
        for user in movers:
            user.retarget()

    def drain(self, port: int, seconds: float, drained: Callable[[], None]) -> None:
        """Nobody new, and everybody out within `seconds`; then `drained()`."""
        if self.target == port:
            self.point(None)
        if port in self._drains:
            self._poll.cancel(self._drains.pop(port).bound)
        if port in self._users:
            self._drains[port] = _Drain(drained, self._poll.after(seconds, lambda: self._clear(port)))
        else:
            _tell(drained)

    def _clear(self, port: int) -> None:
        for user in list(self._users.get(port, ())):
            user.expel()

    def _end_drain(self, port: int) -> None:
        drain = self._drains.pop(port, None)
        if drain is not None:
            self._poll.cancel(drain.bound)
            _tell(drain.drained)


def _tell(drained: Callable[[], None]) -> None:
    try:
        drained()
    except Exception:  # a mistake of who wanted to know must not end the relay
        sys.excepthook(*sys.exc_info())
