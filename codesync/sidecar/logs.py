"""The application's output, from the launcher to those who ask for it: several at once, each as fast as it reads.

Nobody holds the launcher's socket up: who reads too slowly misses lines, the oldest first, and is told how many.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from typing import Any

from codesync.protocol import GENERATION_0, MAX_CHUNK, MAX_TEXT, Answer, AnswerError, GetLogs, Message
from codesync.sidecar.launcher_link import LauncherError, LauncherLink

QUIET_SECONDS = 20.0  # a follower hears at least so often that it is still being served
PATIENCE_SECONDS = 15.0  # for the launcher's next word, where one must come
MAX_WAITING = 4 * 1024 * 1024  # bytes on their way to one reader

_NO_LAUNCHER = "no launcher is connected to this replica: start the application's container with codesync's launcher, then ask again"
_LAUNCHER_LOST = (
    "the launcher was lost while it told its log; ask again when the application's container is back"
)
_SILENT = (
    "the launcher does not tell its log; give the application's image the same codesync as the sidecar's"
)
_UNKNOWN = b'{"known": false}\n'
Line = tuple[float, str, str, str]


class Logs:
    """The questions that are open, by the number that the launcher is given. `quiet_seconds` as above."""

    def __init__(
        self,
        launcher: LauncherLink,
        *,
        quiet_seconds: float = QUIET_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._launcher = launcher
        self._quiet = quiet_seconds
        self._patience = patience_seconds
        self._readers: dict[int, _Reader] = {}
        self._last = 0

    async def answer(self, asked: GetLogs) -> AsyncGenerator[Message, None]:
        """JSON lines, a piece at a time, until there are no more, or `end`."""
        self._last += 1
        number, reader = self._last, _Reader(asked.request)
        since = "" if asked.since_push == GENERATION_0 else asked.since_push
        question = {"request": number, "lines": asked.lines, "since_push": since, "follow": asked.follow}
        try:
            self._launcher.send({"type": "logs", **question})
        except LauncherError:
            yield AnswerError(request=asked.request, code="no_launcher", message=_NO_LAUNCHER)
            return
        self._readers[number] = reader
        try:
            async for message in self._relay(asked, reader):
                yield message
        finally:
            self._finish(number)

    async def _relay(self, asked: GetLogs, reader: _Reader) -> AsyncGenerator[Message, None]:
        while True:
            due = self._quiet if asked.follow and reader.heard else self._patience
            if not await reader.wait(due) and not (asked.follow and reader.heard):
                yield AnswerError(request=asked.request, code="timeout", message=_SILENT)
                return
            data = reader.take()
            if not data and reader.lost:
                yield AnswerError(request=asked.request, code="launcher_lost", message=_LAUNCHER_LOST)
                return
            last = reader.ended and not reader.lost and not reader.lines
            yield Answer(request=asked.request, data=data, last=last)
            if last:
                return

    def heard(self, message: dict[str, Any]) -> None:
        """Take a `log` of the launcher, as the link has checked it."""
        number = message["request"]
        if (reader := self._readers.get(number)) is not None:
            if message["last"]:
                del self._readers[number]  # it says no more by itself
            reader.add(message["lines"], last=message["last"], known=message["known"])

    def lost(self) -> None:
        """The launcher is gone, and with it what it was asked."""
        for reader in self._readers.values():
            reader.lose()
        self._readers.clear()

    def end(self, request: int) -> None:
        """Whoever asked with this number wants no more."""
        for number, reader in list(self._readers.items()):
            if reader.request == request:
                self._finish(number)

    def end_all(self) -> None:
        """Everybody who asked is gone."""
        for number in list(self._readers):
            self._finish(number)

    def _finish(self, number: int) -> None:
        reader = self._readers.pop(number, None)
        if reader is not None:
            reader.stop()
            with suppress(LauncherError):  # then it says no more anyway
                self._launcher.send({"type": "logs_end", "request": number})


class _Reader:
    """What is on its way to one who asked: lines as JSON, each with its time."""

    def __init__(self, request: int) -> None:
        self.request = request
        self.lines: deque[tuple[float, bytes]] = deque()
        self.heard = False
        self.ended = False
        self.lost = False
        self._first = b""  # is told before any line
        self._size = 0
        self._missed: tuple[int, float] | None = None
        self._changed = asyncio.Event()

    def add(self, lines: Iterable[Line], *, last: bool, known: bool = True) -> None:
        """Take what has come; the oldest gives way. `known`: something is remembered of the push that was asked for."""
        if not (known or self.heard):
            self._first = _UNKNOWN
        self.heard, self.ended = True, last
        for line in lines:
            data = _json_line(line)
            self.lines.append((line[0], data))
            self._size += len(data)
        while self._size > MAX_WAITING:
            at, data = self.lines.popleft()
            self._size -= len(data)
            self._missed = (self._missed[0] + 1 if self._missed else 1), at
        self._changed.set()

    def lose(self) -> None:
        """No more comes, though there is more."""
        self.ended = self.lost = True
        self._changed.set()

    def stop(self) -> None:
        """Nobody wants what has not been told yet."""
        self.ended = True
        self.lines.clear()
        self._changed.set()

    async def wait(self, seconds: float) -> bool:
        """Whether within that time there is something to tell, or the end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        return self._changed.is_set()

    def take(self) -> bytes:
        """As many whole lines as one piece of an answer holds."""
        piece = bytearray(self._first + self._words_for_missed())
        self._first = b""
        while self.lines and len(piece) + len(self.lines[0][1]) <= MAX_CHUNK:
            data = self.lines.popleft()[1]
            self._size -= len(data)
            piece += data
        if not self.lines and not self.ended:
            self._changed.clear()
        return bytes(piece)

    def _words_for_missed(self) -> bytes:
        missed, self._missed = self._missed, None
        if missed is None:
            return b""
        count, at = missed
        return _json_line(
            (at, "codesync", "", f"{count} lines are missing here: they came faster than they were read")
        )


def _json_line(line: Line) -> bytes:
    """It fits into one piece of an answer: of a line that is all control characters, say, only the beginning does."""
    at, stream, push_id, text = line
    for part in (text, text[: MAX_TEXT // 2]):
        told = {"at": at, "stream": stream, "push_id": push_id, "text": part}
        data = json.dumps(told, ensure_ascii=False).encode() + b"\n"
        if len(data) <= MAX_CHUNK:
            break
    return data
