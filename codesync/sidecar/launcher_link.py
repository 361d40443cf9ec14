"""The sidecar's end of the launcher's socket: JSON lines, version 1 (docs/launcher-socket.md).

Knows the conversation, not what is pushed. The launcher listens, this end connects and reconnects.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from codesync.sidecar.launcher_words import checked

VERSION = 1
MAX_LINE = 1024 * 1024
HELLO_TIMEOUT = 5.0
RETRY_SECONDS = 0.2
LOST_SECONDS = 1.0  # a launcher that was lost so short a time ago is expected back
BACK_SECONDS = 2.0  # that takes no longer: a retry, and its hello

log = logging.getLogger("codesync.sidecar")
Message = dict[str, Any]


class LauncherError(Exception):
    """The launcher went away, refused, or did not answer in time: the message says which."""


class VersionMismatch(Exception):
    """Launcher and sidecar do not speak the same version."""


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
        self._complained = ""
        self._connecting = False  # somebody listens, and has not said hello yet
        self._lost_at = float("-inf")  # by the loop's clock
        self._greeted = asyncio.Event()
        self.hello: Message | None = None
        self.looked = asyncio.Event()  # set once it is known whether a launcher is there

    @property
    def connected(self) -> bool:
        """Whether both hellos have been said."""
        return self.hello is not None

    async def is_there(self) -> bool:
        """Whether both hellos have been said; one that was lost a moment ago, or that listens, gets the time to say its own."""
        lost_for = asyncio.get_running_loop().time() - self._lost_at
        if not self.connected and (self._connecting or lost_for < LOST_SECONDS):
            with suppress(TimeoutError):
                async with asyncio.timeout(BACK_SECONDS):
                    await self._greeted.wait()
        return self.connected

    async def run(self) -> None:
        """Connect, listen, reconnect; until cancelled."""
        while True:
            try:
                await self._converse()
            except OSError:
                pass  # nobody listens (yet), or it has gone: TimeoutError is one too
            except VersionMismatch as error:
                self._complain(str(error))
            except Exception as error:  # whatever a launcher says, the next one is listened to
                self._complain(f"the conversation with the launcher failed: {type(error).__name__}: {error}")
            self.looked.set()
            await asyncio.sleep(RETRY_SECONDS)

    def _complain(self, text: str) -> None:
        if text != self._complained:  # it is tried again and again
            log.error("%s", text)
        self._complained = text

    async def _converse(self) -> None:
        reader, writer = await self._connect()
        try:
            self._connecting = True
            writer.write(_line(self._greet()))
            async with asyncio.timeout(HELLO_TIMEOUT):
                line = await reader.readline()
            if not line:
                raise ConnectionError("the launcher ends")
            hello = _parse(line)
            if hello.get("type") != "hello" or hello.get("version") != VERSION:
                theirs = str(hello.get("version"))[:20]
                raise VersionMismatch(
                    f"the launcher speaks version {theirs}, this sidecar {VERSION}: use the same codesync for both"
                )
            self._writer, self.hello, self._complained = writer, hello, ""
            self._greeted.set()
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
        push_id = message["push_id"]
        if message["type"] == "error":
            self._refused(push_id, LauncherError(f"the launcher says: {message['message']}"))
        future = self._waiting.pop((message["type"], push_id), None)
        if future is not None and not future.done():
            future.set_result(message)
        else:
            self._on_message(message)

    def _refused(self, push_id: str, error: LauncherError) -> None:
        """End what waits for that push; an error about no push is what `apply` is answered with."""
        for key, future in list(self._waiting.items()):
            if key[1] == push_id:
                self._fail(key, future, error)

    def _fail(self, key: tuple[str, str], future: asyncio.Future[Message], error: LauncherError) -> None:
        if self._waiting.get(key) is future:
            del self._waiting[key]
        if not future.done():
            future.set_exception(error)

    def _lose(self, writer: asyncio.StreamWriter) -> None:
        was, self._writer, self.hello = self.hello, None, None
        self._connecting = False
        self._greeted.clear()
        writer.close()
        for key, future in list(self._waiting.items()):
            error = LauncherError("the launcher closed its connection; is its container restarting?")
            self._fail(key, future, error)
        if was is not None:
            self._lost_at = asyncio.get_running_loop().time()
            self._on_message(checked({"type": "lost"}))

    def send(self, message: Message) -> None:
        """Say it. Raises LauncherError when nobody is there."""
        if self._writer is None:
            raise LauncherError("no launcher is connected")
        self._writer.write(_line(message))

    async def request(self, message: Message, answer: str, within: float) -> Message:
        """Say it and wait for the message of type `answer` about the same push. Raises LauncherError.

        Who asks for what somebody else is waiting for already waits with him.
        """
        key = (answer, str(message.get("push_id", "")))
        future = self._waiting.get(key) or self._ask(key, message, within)
        return await asyncio.shield(future)

    def _ask(self, key: tuple[str, str], message: Message, within: float) -> asyncio.Future[Message]:
        self.send(message)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Message] = loop.create_future()
        self._waiting[key] = future
        error = LauncherError(f"the launcher did not answer {message['type']!r} within {within:.0f} s")
        timer = loop.call_later(within, self._fail, key, future, error)

        def ended(done: asyncio.Future[Message]) -> None:
            timer.cancel()
            if not done.cancelled():
                done.exception()  # whoever waited may have been cancelled

        future.add_done_callback(ended)
        return future


def _line(message: Message) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _parse(line: bytes) -> Message:
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("a message is a JSON object")
    return checked(message)
