"""The sidecar's end of the launcher's socket: JSON lines, version 1 (docs/launcher-socket.md).

Knows the conversation, not what is pushed. The launcher listens, this end connects and reconnects.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

VERSION = 1
MAX_LINE = 1024 * 1024
HELLO_TIMEOUT = 5.0
RETRY_SECONDS = 0.2

Message = dict[str, Any]


class LauncherError(Exception):
    """The launcher went away, refused, or did not answer in time: the message says which."""


class LauncherLink:
    """One launcher, over as many connections as it takes.

    `greet()` makes our hello, once connected; `on_message` gets every message that is no answer to `request`,
    and {"type": "lost"} when the connection ends.
    """

    def __init__(
        self, directory: Path, greet: Callable[[], Message], on_message: Callable[[Message], None]
    ) -> None:
        self._directory = directory
        self._greet = greet
        self._on_message = on_message
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[tuple[str, str], asyncio.Future[Message]] = {}
        self.hello: Message | None = None
        self.looked = asyncio.Event()  # set once it is known whether a launcher is there

    @property
    def connected(self) -> bool:
        """Whether both hellos have been said."""
        return self.hello is not None

    async def run(self) -> None:
        """Connect, listen, reconnect; until cancelled."""
        while True:
            with suppress(OSError, ValueError, TimeoutError, asyncio.IncompleteReadError):
                await self._converse()
            self.looked.set()
            await asyncio.sleep(RETRY_SECONDS)

    async def _converse(self) -> None:
        reader, writer = await self._connect()
        try:
            writer.write(_line(self._greet()))
            async with asyncio.timeout(HELLO_TIMEOUT):
                hello = _parse(await reader.readline())
            if hello.get("type") != "hello" or hello.get("version") != VERSION:
                raise ValueError(
                    f"the launcher speaks version {hello.get('version')}, this sidecar {VERSION}"
                )
            self._writer, self.hello = writer, hello
            self.looked.set()
            self._on_message(hello)
            while line := await reader.readline():
                self._dispatch(_parse(line))
        finally:
            self._lose(writer)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        # through a directory descriptor: the path may be longer than a socket address holds
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return await asyncio.open_unix_connection(
                f"/proc/self/fd/{directory}/launcher.sock", limit=MAX_LINE
            )
        finally:
            os.close(directory)

    def _dispatch(self, message: Message) -> None:
        if message.get("type") == "error" and message.get("push_id"):
            self._fail(str(message["push_id"]), str(message.get("message")))
        key = (str(message.get("type")), str(message.get("push_id", "")))
        future = self._waiting.pop(key, None)
        if future is not None and not future.done():
            future.set_result(message)
        else:
            self._on_message(message)

    def _fail(self, push_id: str, reason: str) -> None:
        for (_, asked), future in list(self._waiting.items()):
            if asked == push_id and not future.done():
                future.set_exception(LauncherError(f"the launcher says: {reason}"))

    def _lose(self, writer: asyncio.StreamWriter) -> None:
        was, self._writer, self.hello = self.hello, None, None
        writer.close()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(
                    LauncherError("the launcher closed its connection; is its container restarting?")
                )
        self._waiting.clear()
        if was is not None:
            self._on_message({"type": "lost"})

    def send(self, message: Message) -> None:
        """Say it. Raises LauncherError when nobody is there."""
        if self._writer is None:
            raise LauncherError("no launcher is connected")
        self._writer.write(_line(message))

    async def request(self, message: Message, answer: str, within: float) -> Message:
        """Say it and wait for the message of type `answer` about the same push. Raises LauncherError."""
        key = (answer, str(message.get("push_id", "")))
        future = asyncio.get_running_loop().create_future()
        self._waiting[key] = future
        try:
            self.send(message)
            async with asyncio.timeout(within):
                return await future  # type: ignore[no-any-return]
        except TimeoutError as error:
            raise LauncherError(
                f"the launcher did not answer {message['type']!r} within {within:.0f} s"
            ) from error
        finally:
            self._waiting.pop(key, None)


def _line(message: Message) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _parse(line: bytes) -> Message:
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("a message is a JSON object")
    return message
