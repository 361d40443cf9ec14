"""What a thread of sockets waits for: readiness, alarms, words of other threads. Everything runs in the thread that turns it."""

from __future__ import annotations

import heapq
import itertools
import selectors
import socket
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE


class Alarm:
    """Something to do at a time; the number keeps the order of those of one time."""

    __slots__ = ("action", "number", "when")

    def __init__(self, when: float, number: int, action: Callable[[], None]) -> None:
        self.when = when
        self.number = number
        self.action: Callable[[], None] | None = action

    def __lt__(self, other: Alarm) -> bool:
        return (self.when, self.number) < (other.when, other.number)


class Poll:
    """`now` is the time of this turn, in seconds that only grow."""

    def __init__(self) -> None:
        self.now = time.monotonic()
        self._selector = selectors.DefaultSelector()
        self._alarms: list[Alarm] = []
        self._numbers = itertools.count()
        self._posted: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._waker, self._woken = socket.socketpair()
        self._waker.setblocking(False)
        self._woken.setblocking(False)
        self._selector.register(self._woken, READ, self._hear)

    def post(self, callback: Callable[..., None], *args: Any) -> None:
        """Have `callback(*args)` called in a turn. From any thread; after `close`: nothing."""
        self._posted.append((callback, args))
        with suppress(OSError):  # full: it will wake up anyhow
            self._waker.send(b"\0")

    def watch(self, who: socket.socket, before: int, events: int, ready: Callable[[int], None]) -> None:
        """Call `ready(events)` whenever one of `events` is there; `before` are those watched until now, 0: none."""
        if not before:
            self._selector.register(who, events, ready)
        elif not events:
            self._selector.unregister(who)
        else:
            self._selector.modify(who, events, ready)

    def after(self, seconds: float, action: Callable[[], None]) -> Alarm:
        """Do it then, unless cancelled."""
        alarm = Alarm(self.now + seconds, next(self._numbers), action)
        heapq.heappush(self._alarms, alarm)
        return alarm

    def cancel(self, alarm: Alarm) -> None:
        """Never mind; also when it has rung."""
        alarm.action = None

    def turn(self) -> None:
        """Wait for something, and do all that is due."""
        while self._alarms and self._alarms[0].action is None:
            heapq.heappop(self._alarms)
        patience = max(0.0, self._alarms[0].when - time.monotonic()) if self._alarms else None
        ready = self._selector.select(patience)
        self.now = time.monotonic()
        for key, events in ready:
            key.data(events)
        while self._alarms and self._alarms[0].when <= self.now:
            action = heapq.heappop(self._alarms).action
            if action is not None:
                action()

    def close(self) -> None:
        """Give the descriptors back; who was watched is left alone."""
        self._selector.close()
        self._waker.close()
        self._woken.close()

    def _hear(self, events: int) -> None:
        with suppress(BlockingIOError):
            self._woken.recv(4096)
        while self._posted:
            callback, args = self._posted.popleft()
            callback(*args)
