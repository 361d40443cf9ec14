"""Answers to who asks for the application's output: what the ring holds, and what comes while somebody follows it."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from codesync.supervise import Line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from codesync.launcher.messages import GetLogs
    from codesync.supervise import Log, Loop


MESSAGE_CHARACTERS = 96 * 1024  # of text in one message, each of which becomes at most six bytes of JSON
WAITING_CHARACTERS = 256 * 1024  # of text for one follower, until the loop's consumer has time for it
MAX_FOLLOWERS = 16


class Logs:
    """`send(kind, **fields)` says something to the sidecar. All but what a follower's lines cause runs in the consumer."""

    def __init__(self, log: Log | None, loop: Loop, send: Callable[..., Any]) -> None:
        self._log = log
        self._loop = loop
        self._send = send
        self._followers: dict[int, _Follower] = {}

    def answer(self, asked: GetLogs) -> None:
        """Say the lines; the last message of an answer says so."""
        if self._log is None:
            text = "the launcher was started with --no-log-tail: what the application writes stays there"
            self._note(asked.request, text, last=True)
            return
        if asked.follow and len(self._followers) < MAX_FOLLOWERS:
            self.end(asked.request)
            self._followers[asked.request] = _Follower(self._log, self._loop, self._pass_on, asked)
            self._say(asked.request, [], last=False, known=self._log.lines(0, asked.since_push).known)
            return
        recent = self._log.lines(asked.lines, asked.since_push)
        self._say(asked.request, recent.lines, last=True, known=recent.known)

    def end(self, request: int) -> None:
        """Nobody follows any more."""
        follower = self._followers.pop(request, None)
        if follower is not None:
            follower.close()

    def end_all(self) -> None:
        """The sidecar is lost."""
        for request in list(self._followers):
            self.end(request)

    def _pass_on(self, request: int) -> None:
        follower = self._followers.get(request)
        if follower is not None:
            self._say(request, follower.take(), last=False)

    def _say(self, request: int, lines: Sequence[Line], *, last: bool, known: bool = True) -> None:
        """`known`: something is remembered of the push that was asked for."""
        groups = list(_groups(lines)) or [[]]
        for number, group in enumerate(groups, 1):
            self._send("log", request=request, lines=group, last=last and number == len(groups), known=known)

    def _note(self, request: int, text: str, *, last: bool = False) -> None:
        self._send("log", request=request, lines=[[time.time(), "codesync", "", text]], last=last, known=True)


class _Follower:
    """Gathers lines in whatever thread they come, and has the loop's consumer called once for all that wait."""

    def __init__(self, log: Log, loop: Loop, notify: Callable[[int], None], asked: GetLogs) -> None:
        self._log = log
        self._loop = loop
        self._notify = notify
        self._request = asked.request
        self._lock = threading.Lock()
        self._waiting: deque[Line] = deque()
        self._size = 0
        self._lost = 0
        self._token = log.follow(self._hear, asked.lines, asked.since_push)

    def _hear(self, lines: Sequence[Line]) -> None:
        with self._lock:
            is_first = not self._waiting
            for line in lines:
                self._waiting.append(line)
                self._size += len(line.text)
            while self._size > WAITING_CHARACTERS:
                self._size -= len(self._waiting.popleft().text)
                self._lost += 1
        if is_first:
            self._loop.post(self._notify, self._request)

    def take(self) -> list[Line]:
        """What has come since the last time, the newest if it was too much, and how much that was."""
        with self._lock:
            taken, lost = list(self._waiting), self._lost
            self._waiting.clear()
            self._size = self._lost = 0
        if lost:
            taken.insert(
                0, Line(time.time(), "codesync", "", f"{lost} lines are left out here: too many came at once")
            )
        return taken

    def close(self) -> None:
        """Hear no more."""
        self._log.unfollow(self._token)


def _groups(lines: Sequence[Line]) -> Iterator[list[list[Any]]]:
    group: list[list[Any]] = []
    room = MESSAGE_CHARACTERS
    for line in lines:
        if group and len(line.text) > room:
            yield group
            group, room = [], MESSAGE_CHARACTERS
        group.append([line.at, line.stream, line.label, line.text])
        room -= len(line.text) + 64
    if group:
        yield group
